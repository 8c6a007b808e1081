"""The Celery application: its patches, and what a worker or beat does when it starts and stops."""

import gc
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Celery runs Django's checks at the start of a worker and ignores what they find. They would load all views and the admin.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")

import structlog
from celery import Celery
from celery.signals import (
    beat_init,
    setup_logging,
    task_prerun,
    worker_before_create_process,
    worker_process_shutdown,
    worker_ready,
)
from django.conf import settings
from django.db import close_old_connections

from broker.publisher import publisher
from config.patches.celery import patch_celery
from config.patches.kombu import patch_kombu
from jobs.registry import operations
from workers.shutdown import announce_shutdown

log = structlog.get_logger(__name__)

patch_kombu()
patch_celery()
app = Celery("semel")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["workers"])
app.autodiscover_tasks(["operators"], related_name="bulk_worker")


@setup_logging.connect(dispatch_uid="keep_our_logging")
def _keep_our_logging(**_signal: Any) -> None:  # noqa: ANN401
    """Keep settings.LOGGING: Celery configures no logging if this signal has a receiver."""


@task_prerun.connect(dispatch_uid="close_old_connections")
def _close_broken_connections(**_signal: Any) -> None:  # noqa: ANN401
    """Drop a connection that a database restart has cut. Otherwise every later task of this process would fail on it."""
    close_old_connections()


@worker_ready.connect(dispatch_uid="announce_shutdown")
def _announce_shutdown_on_signals(**_signal: Any) -> None:  # noqa: ANN401
    """Notify running attempts of a stop signal before Celery acts on it; they have WORKER_SOFT_SHUTDOWN_SECONDS from then on.

    Celery's own `worker_shutting_down` is sent only when that time is over.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, partial(_announce_and_stop, handler))


def _announce_and_stop(handler: Callable[[int, Any], Any], number: int, frame: Any) -> None:  # noqa: ANN401
    announce_shutdown()
    handler(number, frame)


@worker_before_create_process.connect(dispatch_uid="freeze_loaded_objects")
def _freeze_loaded_objects(**_signal: Any) -> None:  # noqa: ANN401
    """Load the operations, and exclude everything loaded so far from garbage collection, before the first fork.

    Children share what is loaded then. A collection writes to each object that it examines, and so copies the memory that a child
    shares with its parent. Celery collects before each fork: over all of Django that would cost a fraction of a second each time.
    """
    if not gc.get_freeze_count():
        operations()
        gc.collect()
        gc.freeze()


@worker_process_shutdown.connect(dispatch_uid="flush_spans")
def _flush_spans(**_signal: Any) -> None:  # noqa: ANN401
    """Send a child's spans before it ends."""
    if settings.TRACING:
        from observability.tracing import flush  # noqa: PLC0415 - needs requirements-otel.txt

        flush()


@worker_process_shutdown.connect(dispatch_uid="flush_publisher")
def _flush_publisher(**_signal: Any) -> None:  # noqa: ANN401
    """Send a child's last hints and wake-ups. A child ends without the interpreter's own exit handlers."""
    publisher.flush()


@beat_init.connect(dispatch_uid="log_beat_start")
def _log_beat_start(**_signal: Any) -> None:  # noqa: ANN401
    """Log beat's start. Each tick is logged by the worker that takes it."""
    log.info("beat.started", schedule=sorted(app.conf.beat_schedule))
