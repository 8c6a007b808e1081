"""The circuit breaker in front of Redis: how many callers wait for a dead broker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from broker import circuit_breaker


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that the test moves."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(circuit_breaker, "time", clock)
    return clock


@pytest.fixture
def link(clock):
    return circuit_breaker.CircuitBreaker(failures=3, open_seconds=5.0)


@pytest.fixture
def others():
    """Run something in another thread, always the same one."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda action: thread.submit(action).result()


def test_an_open_breaker_allows_no_caller_until_the_pause_is_over_and_then_one_at_a_time(link, clock, others):
    for _ in range(3):
        link.failed()
    clock.now += 4.9
    assert not link.allows()
    assert not others(link.allows)
    clock.now += 0.2
    assert others(link.allows)
    assert not link.allows()
    others(link.failed)
    clock.now += 4.9
    assert not link.allows()


def test_a_success_closes_the_breaker_for_all_threads(link, clock, others):
    for _ in range(3):
        others(link.failed)
    clock.now += 5.1
    assert link.allows()
    link.succeeded()
    clock.now += 0.5
    assert [link.allows(), others(link.allows), link.allows()] == [True, True, True]


def test_failures_with_successes_in_between_do_not_open_it(link, others):
    for _ in range(5):
        others(link.failed)
        others(link.succeeded)
        others(link.failed)
        assert link.allows()
        others(link.succeeded)
