"""The Celery application and its clock: what beat sends to the maintenance worker."""

from __future__ import annotations

import gc
import os
import signal
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import structlog
from celery import Celery
from celery.apps import worker as celery_worker
from celery.signals import beat_init, setup_logging, task_prerun, worker_process_shutdown, worker_ready
from celery.worker.control import control_command
from django.conf import settings
from django.db import close_old_connections
from kombu.transport import redis

from foundation.fault_points import reach
from observability.liveness import Pulse
from observability.stderr_handler import say
from workers.shutdown import announce_shutdown

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)
_pulse = Pulse(settings.PROCESS_KIND)


class _QoS(redis.QoS):
    """A message that could not be acknowledged frees its place in the worker all the same.

    Kombu keeps the place, and Celery drops the error: after a few lost connections a worker would be full of messages that it
    has long dealt with, and deaf. Such a message comes back after the visibility timeout, and its claim finds no row.
    """

    def can_consume(self) -> bool:
        """Whether there is a place for a message. Asked in each round of the worker's loop; without one it is busy, and alive."""
        has_place = bool(super().can_consume())
        if not has_place:
            _pulse.beat()
        return has_place

    def ack(self, delivery_tag: str) -> None:
        try:
            reach("before_ack")
            super().ack(delivery_tag)
        finally:
            self._dirty.add(delivery_tag)


redis.Channel.QoS = _QoS


def _read_poll(self: redis.Channel, **options: Any) -> Any:  # noqa: ANN401 - kombu's signature
    """The broker has answered a poll, with a message or with none: this worker hears it."""
    try:
        answer = _brpop_read(self, **options)
    except Empty:
        _pulse.beat()
        raise
    _pulse.beat()
    return answer


_brpop_read = redis.Channel._brpop_read  # noqa: SLF001 - no other place tells
setattr(redis.Channel, "_brpop_read", _read_poll)  # noqa: B010 - a method, to mypy


def _say(message: str, _file: object = None) -> None:
    """What Celery prints while it handles a signal is a log line as well, written at once: no lock may be waited for there."""
    say(message.strip(), logger="celery.apps.worker")


celery_worker.safe_say = _say

app = Celery("semel")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["workers", "operators"])


@task_prerun.connect(dispatch_uid="close_old_connections")
def _check_connections(**_signal: Any) -> None:  # noqa: ANN401
    """A connection that a database restart has cut is opened anew, instead of failing every task of this process."""
    close_old_connections()


@worker_ready.connect(dispatch_uid="announce_shutdown")
def _announce_shutdown(**_signal: Any) -> None:  # noqa: ANN401
    """A signal to stop is told to the attempts under way before Celery acts on it.

    They have WORKER_SOFT_SHUTDOWN_TIMEOUT to end or to give their jobs back. Celery's own `worker_shutting_down` comes when
    that is over.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, partial(_stop, handler))


@worker_ready.connect(dispatch_uid="freeze_what_is_loaded")
def _freeze_what_is_loaded(**_signal: Any) -> None:  # noqa: ANN401
    """What is loaded stays, and the garbage collector need not look through it again.

    Celery collects before each fork: with all of Django in sight, a child that died costs its parent a fraction of a second.
    """
    gc.collect()
    gc.freeze()


def _stop(handler: Callable[[int, Any], Any], number: int, frame: Any) -> None:  # noqa: ANN401
    announce_shutdown()
    handler(number, frame)


@beat_init.connect(dispatch_uid="tell_start")
def _tell_start(**_signal: Any) -> None:  # noqa: ANN401
    """Beat's first line; of each tick the worker that takes it tells."""
    log.info("beat.started", schedule=sorted(app.conf.beat_schedule))


@worker_process_shutdown.connect(dispatch_uid="flush_spans")
def _flush_spans(**_signal: Any) -> None:  # noqa: ANN401
    """What a child has traced is sent before it ends."""
    if settings.TRACING:
        from observability.tracing import flush  # noqa: PLC0415 - an extra

        flush()


@control_command(name="shutdown")
def _shut_down(state: Any, **_arguments: Any) -> dict[str, str]:  # noqa: ANN401 - Celery's signature
    """Shut the worker down as a signal would, once it has said so: `celery control shutdown` gives jobs back too.

    Celery's own waits for each attempt to end, an hour if need be, and tells none of them.
    """
    state.consumer.call_soon(os.kill, os.getpid(), signal.SIGTERM)
    return {"ok": "shutting down"}


@setup_logging.connect(dispatch_uid="keep_our_logging")
def _keep_our_logging(**_signal: Any) -> None:  # noqa: ANN401
    """Celery leaves logging alone: settings.LOGGING is in force."""
