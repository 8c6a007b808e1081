"""Connections to the broker that died silently: each process notices and works on over a new one (I2, I8)."""

from __future__ import annotations

import contextlib
import functools
import socket

import pytest
from django.conf import settings

from devstack.ports import free_port
from tests.support.broker_proxy import HOST, BrokerProxy
from tests.support.stack import POLL_SECONDS, START_SECONDS, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

# How many messages the worker takes at once: one for each of its processes (devstack/services.py).
SLOTS = 2
PROCESSES = ("worker", "maintenance", "beat")
# A health check every ten seconds, which may miss two answers; then a new connection, a tick, a sweep and the run.
NOTICED_SECONDS = 60.0


class HalfOpenProxy(BrokerProxy):
    """A relay that can drop its connections as a network does: neither bytes nor their end get through."""

    def __init__(self, url):
        self._dropped = set()
        super().__init__(url)

    def drop_present(self):
        """Silence all present connections for ever, on both sides; new ones work. Return how many."""
        with self._lock:
            self._dropped |= self._sockets
            return len(self._sockets) // 2

    def _relay(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if source not in self._dropped:
                    sink.sendall(data)
        if source not in self._dropped:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets.discard(source)
        source.close()


@pytest.fixture
def proxy():
    proxy = HalfOpenProxy(settings.REDIS_URL)
    yield proxy
    proxy.refuse()


@pytest.fixture
def stack(transactional_db, tmp_path, proxy):
    with running_stack(tmp_path, "--slow-seconds", "3", REDIS_URL=proxy.url) as stack:
        stack.start_workers(*PROCESSES)
        # The api reaches no broker and publishes nothing: jobs run only if beat ticks, maintenance sweeps and the worker polls.
        stack.start_api(REDIS_URL=f"redis://{HOST}:{free_port()}/0")
        yield stack


def test_beat_maintenance_and_worker_replace_dead_connections_to_the_broker(stack, caller, proxy):
    charge_and_wait(caller, stack)
    # Each round one message cannot be acknowledged. If it kept its place, the worker would take no more after the last.
    for number in range(SLOTS):
        address = caller.charge(f"during-{number}", "tok_slow").headers["Location"]
        until(functools.partial(has_begun, caller, address), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
        assert proxy.drop_present() >= len(PROCESSES)
        assert caller.charge(f"after-{number}").status_code == 202
        jobs = caller.when_ended(3 + 2 * number, seconds=NOTICED_SECONDS, stack=stack)
        assert {job["state"] for job in jobs} == {"succeeded"}
    for job in jobs:
        assert len(stack.provider.charges(f"semel-{job['id']}-charge-1")) == 1
    # No process has ended and been restarted.
    assert not [name for name in PROCESSES if stack.running[name].has_ended]


def has_begun(caller, address):
    return caller.http.get(address).json()["effects"]


def charge_and_wait(caller, stack):
    """Run one job to its end, so that every process has its connections."""
    assert caller.charge("before").status_code == 202
    caller.when_ended(1, seconds=START_SECONDS, stack=stack)
