"""What a 202 costs without the broker: `python3 run.py test -n 0 -s tests/bench/bench_broker_down.py` (half a minute).

The promise is 1.5 s for the slowest of 32 clients at once. Tests allow more, since a busy machine is no fault of ours; here the
figure is printed for each kind of trouble, at an api that has not met it before. It fails only where an answer is no 202.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.support.broker_proxy import broker_proxy
from tests.support.factories import TenantFactory, new_api_key
from tests.support.stack import Caller, running_stack
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS, ROUNDS = 32, 3


@contextlib.contextmanager
def cut(proxy, way):
    """The broker cannot be reached, in this way."""
    getattr(proxy, way)()
    try:
        yield
    finally:
        proxy.come_back()


def charge_timed(caller, key):
    began = time.monotonic()
    answer = caller.charge(key)
    return answer.status_code, time.monotonic() - began


def measure(caller, name):
    """As many clients at once, a few times over: the first round meets the trouble, the others know of it."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        for number in range(ROUNDS):
            keys = [f"{name}-{number}-{client}" for client in range(CLIENTS)]
            results = list(clients.map(partial(charge_timed, caller), keys))
            assert {status for status, _seconds in results} == {202}
            seconds = sorted(each for _status, each in results)
            print(
                f"{name:>10}  round {number + 1}  median {statistics.median(seconds):5.2f} s  slowest {seconds[-1]:5.2f} s"
            )


def test_bench_broker_down(tmp_path, transactional_db):
    with running_valkey(tmp_path) as valkey, broker_proxy(valkey.url) as proxy:
        # With a rate limit, so that all that talks to the broker must share one time-out.
        env = {"REDIS_URL": proxy.url, "RATE_LIMIT_PER_SECOND": "100000", "RATE_LIMIT_BURST": "100000"}
        troubles = {
            "none": contextlib.nullcontext,
            "refused": partial(cut, proxy, "refuse"),
            "hung": partial(cut, proxy, "fall_silent"),
            "killed": partial(valkey.killed, with_data=True),
            "emptied": partial(valkey.killed, with_data=False),
            "full": valkey.full,
            "demoted": valkey.demoted,
        }
        print()
        with running_stack(tmp_path, **env) as stack:
            for name, trouble in troubles.items():
                caller = Caller(stack.start_api(), new_api_key(TenantFactory()))
                with caller.http:
                    caller.charge("first")
                    with trouble():
                        measure(caller, name)
                stack.kill("api")
