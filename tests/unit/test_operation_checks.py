"""The system checks report an operation that cannot work: each mistake by its own number, with what to do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.checks import run_checks
from rest_framework import serializers

from jobs import checks
from jobs.checks import check_operations
from jobs.operations import Operation
from jobs.registry import forget_operations


class Params(serializers.Serializer):
    """Nothing."""


class Good(Operation):
    name = "test.good"
    params = Params

    def perform(self, params, job):
        options = {"key_window": timedelta(hours=1)}
        job.effect("remembered", lambda key: key, key_window=timedelta(hours=1))
        job.effect("reconciled", lambda key: key, reconcile=lambda _key: None)
        job.effect("with options", lambda key: key, **options)
        job.effect("blind on purpose", lambda key: key)

    blind_effects = ("blind on purpose",)


class Nameless(Good):
    name = ""


class Shouting(Good):
    name = "Test"


class WithoutName(Operation):
    params = Params

    def perform(self, params, job):
        """Nothing."""

    blind_effects = Good.blind_effects


class NoForm(Good):
    name, params = "test.no_form", dict


class NoWork(Operation):
    name, params = "test.no_work", Params
    blind_effects = Good.blind_effects


class NoTime(Good):
    name, timeout_seconds = "test.no_time", 0


class NoTry(Good):
    name, max_attempts = "test.no_try", "5"


class Blind(Good):
    name, blind_effects = "test.blind", ()


class Undecided(Good):
    name, io_bound = "test.undecided", "yes"


class Timed(Operation):
    name, params, io_bound = "test.timed", Params, True

    def perform(self, params, job):
        job.effect("timed", lambda key: key, key_window=timedelta(hours=1), timeout=timedelta(seconds=1))


class Untimed(Operation):
    name, params, io_bound = "test.untimed", Params, True

    def perform(self, params, job):
        job.effect("endless", lambda key: key, key_window=timedelta(hours=1))


NO_OPERATION = object()


def found(settings, name):
    settings.OPERATIONS = [f"{__name__}.{name}"]
    return check_operations()


def test_the_shipped_operations_pass():
    assert check_operations() == []


def test_a_correct_operation_passes(settings):
    assert found(settings, "Good") == []
    assert found(settings, "Timed") == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("Missing", "semel.E020"),
        ("NO_OPERATION", "semel.E021"),
        ("NoWork", "semel.E022"),
        ("Nameless", "semel.E023"),
        ("Shouting", "semel.E023"),
        ("WithoutName", "semel.E023"),
        ("NoForm", "semel.E024"),
        ("NoTime", "semel.E025"),
        ("NoTry", "semel.E025"),
        ("Blind", "semel.E026"),
        ("Undecided", "semel.E027"),
        ("Untimed", "semel.E028"),
    ],
)
def test_each_mistake_is_reported_by_its_own_number(settings, name, wrong):
    [error] = found(settings, name)
    assert error.id == wrong
    assert f"{__name__}.{name}" in error.msg


def test_a_blind_effect_is_reported_with_what_to_do(settings):
    [error] = found(settings, "Blind")
    assert "'blind on purpose'" in error.msg
    assert 'blind_effects = ("blind on purpose",)' in error.hint


def test_a_wrong_operation_stops_every_command_but_not_the_other_checks(settings):
    settings.OPERATIONS = [f"{__name__}.NoForm"]
    forget_operations()
    try:
        assert "semel.E024" in {error.id for error in run_checks()}
    finally:
        forget_operations()


def test_effects_are_read_from_the_code():
    assert checks._effects_without(Good, checks._SETTLING_OPTIONS) == {"blind on purpose"}
