"""`manage.py check` proves a deployment: it reports each pair of durations that contradict each other."""

from __future__ import annotations

import pytest
from django.conf import settings as configured
from django.core.checks import run_checks

from config.checks import check_metrics, check_times


def found():
    return {error.id for error in check_times()}


def test_the_defaults_fulfil_every_relation():
    assert not [error for error in run_checks() if error.id.startswith("semel.")]
    assert found() == set()


@pytest.mark.parametrize(
    ("wrong", "overrides"),
    [
        ("semel.E001", {"HEARTBEAT_SECONDS": 15.1}),
        ("semel.E002", {"EFFECT_TIMEOUT_SECONDS": 42.1, "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": 60.0}),
        ("semel.E003", {"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 3_900}}),
        ("semel.E004", {"CELERY_TASK_SOFT_TIME_LIMIT": 60}),
        ("semel.E005", {"SWEEP_SECONDS": 0}),
        ("semel.E006", {"PAYMENT_PROVIDER_TIMEOUT_SECONDS": 40.1}),
        ("semel.E013", {"CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": 32.9}),
        ("semel.E008", {"AUDIT_RETENTION_SECONDS": 90 * 24 * 3600}),
        ("semel.E010", {"ORPHAN_FILE_TTL_SECONDS": 3_900}),
        ("semel.E012", {"PROVISION_TIMEOUT_SECONDS": 40.1}),
        ("semel.W001", {"JOB_RETENTION_SECONDS": 24 * 3600 - 1}),
    ],
)
def test_exactly_the_violated_relation_is_reported(settings, wrong, overrides):
    for name, value in overrides.items():
        setattr(settings, name, value)
    assert found() == {wrong}


@pytest.mark.parametrize(
    "overrides",
    [
        {"HEARTBEAT_SECONDS": 15},
        {"EFFECT_TIMEOUT_SECONDS": 42, "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": 45.0},
        {"PAYMENT_PROVIDER_TIMEOUT_SECONDS": 40},
        {"PROVISION_TIMEOUT_SECONDS": 40},
        {"JOB_RETENTION_SECONDS": 24 * 3600},
        {"ORPHAN_FILE_TTL_SECONDS": 3_901},
    ],
)
def test_values_at_the_limit_are_accepted(settings, overrides):
    for name, value in overrides.items():
        setattr(settings, name, value)
    assert found() == set()


@pytest.mark.parametrize("value", [0, -1, -0.5])
@pytest.mark.parametrize(
    "name", ["BACKOFF_BASE_SECONDS", "HEARTBEAT_SECONDS", "BACKLOG_SECONDS", "HINTS_MAX", "PURGE_SECONDS"]
)
def test_a_duration_that_is_not_positive_is_reported_by_name(settings, name, value):
    setattr(settings, name, value)
    [error] = [error for error in check_times() if error.id == "semel.E005"]
    assert error.msg.startswith(f"{name} ({value})")


def test_no_check_is_silenced():
    assert not [name for name in configured.SILENCED_SYSTEM_CHECKS if name.startswith("semel.")]


@pytest.mark.parametrize(
    ("token", "folder", "expected"),
    [
        ("", "", set()),
        ("long enough to be no guess", "/metrics", set()),
        ("short", "/metrics", {"semel.W002"}),
        ("long enough to be no guess", "", {"semel.W003"}),
    ],
)
def test_incomplete_or_public_metrics_are_reported(settings, token, folder, expected):
    settings.METRICS_TOKEN, settings.PROMETHEUS_MULTIPROC_DIR = token, folder
    assert {warning.id for warning in check_metrics()} == expected
