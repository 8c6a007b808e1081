"""Patches of Celery's worker."""

import os
import signal
from typing import Any

from celery.apps import worker
from celery.worker.control import control_command

from observability.stderr_handler import write_line


def patch_celery() -> None:
    """Log what Celery prints in its signal handlers, and let `celery control shutdown` return running jobs."""
    worker.safe_say = _log_in_signal_handler
    control_command(name="shutdown")(_shut_down)


def _log_in_signal_handler(message: str, _file: object = None) -> None:
    """Write a log line without any lock (celery#9222: no buffered print in a signal handler)."""
    write_line(message.strip(), logger="celery.apps.worker")


def _shut_down(state: Any, **_arguments: Any) -> dict[str, str]:  # noqa: ANN401 - Celery's signature
    """Shut the worker down as SIGTERM does, once the answer is sent (celery#2277: no way not to wait for running tasks).

    Celery's own command waits for each attempt to end, up to an hour, and notifies none of them.
    """
    state.consumer.call_soon(os.kill, os.getpid(), signal.SIGTERM)
    return {"ok": "shutting down"}
