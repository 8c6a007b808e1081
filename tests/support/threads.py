"""Real threads with connections of their own."""

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

PATIENCE = 20.0  # seconds after which a test fails rather than hangs


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """What each of the actions returned, or the exception that it raised. They begin at the same moment."""
    barrier = Barrier(len(actions))
    return _run(actions, before=lambda: barrier.wait(PATIENCE))


def at_one_row(job: Job, *actions: Callable[[], Any]) -> list[Any]:
    """As `at_once`; every action is seen to wait for the job's row before the first of them gets it."""
    with ThreadPoolExecutor(len(actions)) as pool:
        with locked(job):
            begun = [pool.submit(_closing, action) for action in actions]
            until_waiting(len(actions))
        return [_outcome(future) for future in begun]


def in_turn(job: Job, *actions: Callable[[], Any], between: Callable[[], Any] = lambda: None) -> list[Any]:
    """As `at_one_row`; they queue up for the row one after the other, the first is served first. `between`: meanwhile."""
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
    """The actions are under way. Ask each of what is returned for its result: it waits, and raises what the action raised."""
    pool = ThreadPoolExecutor(len(actions))
    begun = [pool.submit(_closing, action) for action in actions]
    pool.shutdown(wait=False)
    return [partial(future.result, PATIENCE) for future in begun]


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
    error = future.exception(timeout=PATIENCE)
    return future.result() if error is None else error
