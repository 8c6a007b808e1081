"""Run actions in threads, each with its own connection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING, Any

from django.db import connection

from tests.support.row_locks import locked, until_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobs.models import Job

TIMEOUT_SECONDS = 20.0  # after this a test fails instead of hanging


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Start the actions at the same moment and return what each returned, or the exception that it raised."""
    barrier = Barrier(len(actions))
    return _run(actions, before=lambda: barrier.wait(TIMEOUT_SECONDS))


def at_one_row(job: Job, *actions: Callable[[], Any]) -> list[Any]:
    """Like `at_once`, but all actions wait for the job's row before the first gets it."""
    with ThreadPoolExecutor(len(actions)) as pool:
        with locked(job):
            begun = [pool.submit(_closing, action) for action in actions]
            until_waiting(len(actions))
        return [_outcome(future) for future in begun]


def in_turn(job: Job, *actions: Callable[[], Any], between: Callable[[], Any] = lambda: None) -> list[Any]:
    """Like `at_one_row`, but the actions get the row in this order. `between` runs after each but the last has begun to wait."""
    with ThreadPoolExecutor(len(actions)) as pool:
        begun = []
        with locked(job):
            for number, action in enumerate(actions, 1):
                begun.append(pool.submit(_closing, action))
                until_waiting(number)
                if number < len(actions):
                    between()
        return [_outcome(future) for future in begun]


def begin(*actions: Callable[[], Any]) -> list[Callable[[], Any]]:
    """Start the actions and return a function for each, which waits for its result and returns or raises it."""
    pool = ThreadPoolExecutor(len(actions))
    begun = [pool.submit(_closing, action) for action in actions]
    pool.shutdown(wait=False)
    return [partial(future.result, TIMEOUT_SECONDS) for future in begun]


def _run(actions: Iterable[Callable[[], Any]], *, before: Callable[[], Any]) -> list[Any]:
    def run(action: Callable[[], Any]) -> Any:
        connection.ensure_connection()
        before()
        return action()

    actions = list(actions)
    with ThreadPoolExecutor(len(actions)) as pool:
        return [_outcome(future) for future in [pool.submit(_closing, run, action) for action in actions]]


def _closing(function: Callable[..., Any], *values: Any) -> Any:
    try:
        return function(*values)
    finally:
        connection.close()


def _outcome(future: Any) -> Any:
    error = future.exception(timeout=TIMEOUT_SECONDS)
    return future.result() if error is None else error
