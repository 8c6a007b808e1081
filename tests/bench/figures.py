"""The figures: each function measures one contestant that has just started, and returns numbers by name."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.bench.cpu import cpu_seconds, pss_bytes
from tests.bench.load import Load, Plan, quantile

if TYPE_CHECKING:
    from tests.bench.contestants import Contestant, Semel

Numbers = dict[str, float]

_PARAMS = {"amount": 1999, "currency": "usd", "source": "tok_visa"}
SHORT, CALL = (json.dumps({"operation": name, "params": _PARAMS}) for name in ("bench.nothing", "bench.call"))
# Of a backlog: how long its decline is measured, and how many jobs it has at most.
_DRAIN_SECONDS = 8.0
_IDLE_JOBS = 60


def send(plan: Plan) -> Load:
    """Run the load generator in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.load"]
    done = subprocess.run(command, input=json.dumps(asdict(plan)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The load generator failed: {done.stderr[-500:]}")
    return Load(**json.loads(done.stdout))


def plan_for(contestant: Contestant, body: str, seconds: float, **options: object) -> Plan:
    return Plan(url=contestant.url, headers=contestant.headers, body=body, seconds=seconds, **options)  # type: ignore[arg-type]


def accept(contestant: Contestant, seconds: float) -> Numbers:
    """Measure new keys with the workers on, then the replay of the same keys."""
    arena = contestant.arena
    send(plan_for(contestant, SHORT, 1.0))  # warm caches and prepared statements
    clocks = {name: lambda names=names: cpu_seconds(arena.pids(*names)) for name, names in _groups(contestant).items()}
    before = {name: clock() for name, clock in clocks.items()}
    finished_before, began_at = contestant.finished(), time.perf_counter()
    load = send(plan_for(contestant, SHORT, seconds))
    finished = contestant.finished() - finished_before
    used = {name: clock() - before[name] for name, clock in clocks.items()}
    replay = send(plan_for(contestant, SHORT, seconds / 2, keys=load.keys))
    _require_2xx(load, replay)
    return {
        "accept_per_second": load.per_second,
        "accept_p50_ms": load.p50_ms,
        "accept_p99_ms": load.p99_ms,
        "accept_api_cpu_ms": used["api"] / load.requests * 1000,
        "accept_generator_cpu_ms": load.cpu_seconds / load.requests * 1000,
        "finished_meanwhile_per_second": finished / (time.perf_counter() - began_at),
        "replay_per_second": replay.per_second,
    }


def accept_alone(contestant: Contestant, seconds: float) -> Numbers:
    """Measure new keys without workers: what an accept costs PostgreSQL, and a backlog for `drain`."""
    arena = contestant.arena
    contestant.stop_workers()
    names = _groups(contestant)
    before = {name: cpu_seconds(arena.pids(*names[name])) for name in ("api", "postgres")}
    load = send(plan_for(contestant, SHORT, seconds))
    used = {name: cpu_seconds(arena.pids(*names[name])) - before[name] for name in before}
    _require_2xx(load)
    return {
        "accept_alone_per_second": load.per_second,
        "accept_alone_api_cpu_ms": used["api"] / load.requests * 1000,
        "accept_postgres_cpu_ms": used["postgres"] / load.requests * 1000,
    }


def drain(contestant: Contestant) -> Numbers:
    """Measure how fast a backlog of short jobs is finished, with nothing else going on."""
    contestant.start_workers()
    rate, cpu = _measure_finishing(contestant)
    return {
        "finished_per_second": rate,
        "finished_worker_cpu_ms": cpu["workers"],
        "finished_postgres_cpu_ms": cpu["postgres"],
    }


def calls(contestant: Contestant, seconds: float) -> Numbers:
    """Measure how fast jobs with one 100 ms call each are finished, and the workers' memory meanwhile."""
    contestant.stop_workers()
    send(plan_for(contestant, CALL, seconds))
    contestant.start_workers()
    memory = 0.0

    def look() -> None:
        nonlocal memory
        memory = max(memory, pss_bytes(contestant.arena.pids(*(contestant.workers or contestant.api))) / 2**20)

    rate, _ = _measure_finishing(contestant, look)
    return {"calls_per_second": rate, "workers_pss_mb": memory}


def idle(contestant: Semel) -> Numbers:
    """Measure the time from a 202 to the operation's first line, in an idle stack."""
    milliseconds = []
    for number in range(_IDLE_JOBS):
        job = _post(contestant, f"idle-{time.time_ns()}-{number}")
        answered_at = time.time()
        result = _wait_for_result(contestant, job)
        milliseconds.append(max(0.0, (result["at"] - answered_at) * 1000))
    milliseconds.sort()
    return {"start_p50_ms": quantile(milliseconds, 0.5), "start_p99_ms": quantile(milliseconds, 0.99)}


def _groups(contestant: Contestant) -> dict[str, tuple[str, ...]]:
    return {"api": contestant.api, "workers": contestant.workers or contestant.api, "postgres": ("postgres",)}


def _measure_finishing(contestant: Contestant, look: Callable[[], None] | None = None) -> tuple[float, Numbers]:
    """Return jobs finished per second, and CPU milliseconds per job, from the moment the first ones are finished."""
    arena, first = contestant.arena, contestant.finished()
    while contestant.finished() <= first + 20:
        time.sleep(0.05)
    names = _groups(contestant)
    groups = ("workers", "postgres")
    before = {name: cpu_seconds(arena.pids(*names[name])) for name in groups}
    began, began_at = contestant.finished(), time.perf_counter()
    done, done_at = began, began_at
    while time.perf_counter() - began_at < _DRAIN_SECONDS:
        time.sleep(0.5)
        now, now_at = contestant.finished(), time.perf_counter()
        if now == done:
            break
        done, done_at = now, now_at
        if look:
            look()
    count = max(1, done - began)
    cpu = {name: (cpu_seconds(arena.pids(*names[name])) - before[name]) / count * 1000 for name in groups}
    return count / max(done_at - began_at, 0.001), cpu


def _post(contestant: Semel, key: str) -> dict[str, object]:
    headers = {**contestant.headers, "Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(contestant.url, SHORT.encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        job: dict[str, object] = json.load(response)
    return job


def _wait_for_result(contestant: Semel, job: dict[str, object]) -> dict[str, float]:
    request = urllib.request.Request(f"{contestant.url}/{job['id']}", headers=contestant.headers)
    while True:
        time.sleep(0.05)
        with urllib.request.urlopen(request, timeout=10) as response:
            now = json.load(response)
        if now["state"] == "succeeded":
            result: dict[str, float] = now["result"]
            return result


def _require_2xx(*loads: Load) -> None:
    for load in loads:
        if load.refused:
            raise RuntimeError(f"Not every request was accepted: {load.by_status}")
