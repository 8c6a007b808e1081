"""An operation whose work is a function that the test gives."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from jobs.operations import JobHandle, Operation
from workers.operations.charge_payment import ChargePayment

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPTS: dict[str, Callable[[JobHandle], Any]] = {}


class ScriptParams(serializers.Serializer):
    """Which script to run."""

    script = serializers.CharField()


class Scripted(Operation):
    """Runs the named script of this process."""

    name = "test.scripted"
    params = ScriptParams
    max_attempts = 3
    timeout_seconds = 60

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        return SCRIPTS[params["script"]](job)


class _ValueField(serializers.Field):
    """Any JSON value, as the parser read it."""

    def to_internal_value(self, data: Any) -> Any:
        return data


class AnythingParams(serializers.Serializer):
    """Any value at all."""

    value = _ValueField(allow_null=True)


class Anything(Operation):
    """Gives back what it was given."""

    name = "test.anything"
    params = AnythingParams

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        return params["value"]


class NoParams(serializers.Serializer):
    """Nothing to say."""


class Stuck(Operation):
    """Never asks whether it should stop, and never ends."""

    name = "test.stuck"
    params = NoParams
    max_attempts = 1
    timeout_seconds = 1

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        threading.Event().wait()


class Stubborn(Operation):
    """Takes no hint, whatever it is told; only its process can be ended."""

    name = "test.stubborn"
    params = NoParams
    max_attempts = 1
    timeout_seconds = 1

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        while True:
            with contextlib.suppress(Exception):
                threading.Event().wait()


class Quick(Operation):
    """Is done at once."""

    name = "test.quick"
    params = NoParams
    timeout_seconds = 1

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        return None


class Poison(Operation):
    """Kills the process that runs it."""

    name = "test.poison"
    params = NoParams
    max_attempts = 3

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class BriefCharge(ChargePayment):
    """A charge whose attempts may take seconds only, so that one that hangs is soon ended."""

    name = "test.brief_charge"
    timeout_seconds = 6
