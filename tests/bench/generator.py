"""The capacity of the load generator, measured against a server that answers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devstack.ports import free_port
from devstack.services import answers
from tests.bench.load import Endpoint, new_keys, run_load

if TYPE_CHECKING:
    from tests.bench.host import Host

NAME = "fast-service"
SECONDS = 1.0
BODY = b'{"operation":"short","params":{"amount":1999,"currency":"usd","source":"tok_visa"}}'


def measure_generator(host: Host) -> dict[str, float]:
    """Return how many requests per second it can send and read on this machine, and its CPU time for each."""
    port = free_port()
    host.start_python(NAME, "-m", "tests.bench.slow_service", str(port), "--fast")
    try:
        host.supervisor.wait_for({NAME: answers(port, "/")})
        load = run_load(Endpoint(port=port, path="/", headers={}, body=BODY), new_keys("fast"), seconds=SECONDS)
    finally:
        host.kill([NAME])
    return {"generator_per_second": load.rate, "generator_cpu_ms": 1_000 * load.cpu_per_request}
