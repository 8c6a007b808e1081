"""The Celery application and its clock: what beat sends to the maintenance worker."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from celery import Celery
from celery.signals import setup_logging, task_prerun
from django.db import close_old_connections

app = Celery("semel")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["workers"])


@task_prerun.connect(dispatch_uid="close_old_connections")
def _check_connections(**_signal: Any) -> None:  # noqa: ANN401
    """A connection that a database restart has cut is opened anew, instead of failing every task of this process."""
    close_old_connections()


@setup_logging.connect(dispatch_uid="keep_our_logging")
def _keep_our_logging(**_signal: Any) -> None:  # noqa: ANN401
    """Celery leaves logging alone: settings.LOGGING is in force."""
