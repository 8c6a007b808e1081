"""Fixtures of the tests that start real processes."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.support.factories import TenantFactory, new_api_key
from tests.support.launcher import COMMAND, Launcher
from tests.support.promises import Ledger
from tests.support.stack import POLL_SECONDS, START_SECONDS, Caller
from tests.support.waiting import until


@pytest.fixture
def api_key(transactional_db):
    """A key of a tenant that the stack's processes see."""
    return new_api_key(TenantFactory())


@pytest.fixture
def launch():
    """`launch("demo")` starts `run.py demo`, and `launch(code=…)` Python code that plays with parts of it."""
    started = []

    def start(*words, code=None, **env):
        command = [*COMMAND, *words] if code is None else [sys.executable, "-c", code]
        started.append(Launcher(command, **env))
        return started[-1]

    yield start
    for launcher in started:
        launcher.popen.kill()
        launcher.leaves_nothing()


@pytest.fixture
def frozen_at(stack):
    """Start a worker that freezes at the point; returns once it has, every process of it. All are gone at the end."""
    started = []

    def start(name, point):
        started.append(name)
        stack.start_workers(name, FAULT_POINT=f"{point}:1:stop")
        until(lambda: stack.frozen_children(name), seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
        stack.signal(name, signal.SIGSTOP)

    yield start
    for name in started:
        stack.kill(name)


@pytest.fixture
def caller(stack, api_key):
    """A client of the api of the file's own `stack`."""
    caller = Caller(stack.urls["api"], api_key)
    with caller.http:
        yield caller


@pytest.fixture
def ledger(caller, stack):
    """Return a ledger of the responses that this client received."""
    return Ledger(caller, stack)
