"""The Celery application and its clock: what beat sends to the maintenance worker."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from celery import Celery
from celery.signals import setup_logging, task_prerun, worker_ready
from django.db import close_old_connections
from kombu.transport import redis

from idempotency.crashpoints import reach
from workers.shutdown import announce_shutdown

if TYPE_CHECKING:
    from collections.abc import Callable


class _QoS(redis.QoS):
    """A message that could not be acknowledged frees its place in the worker all the same.

    Kombu keeps the place, and Celery drops the error: after a few lost connections a worker would be full of messages that it
    has long dealt with, and deaf. Such a message comes back after the visibility timeout, and its claim finds no row.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            reach("before_ack")
            super().ack(delivery_tag)
        finally:
            self._dirty.add(delivery_tag)


redis.Channel.QoS = _QoS

app = Celery("semel")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["workers"])


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


def _stop(handler: Callable[[int, Any], Any], number: int, frame: Any) -> None:  # noqa: ANN401
    announce_shutdown()
    handler(number, frame)


@setup_logging.connect(dispatch_uid="keep_our_logging")
def _keep_our_logging(**_signal: Any) -> None:  # noqa: ANN401
    """Celery leaves logging alone: settings.LOGGING is in force."""
