"""Operations for tests: `test.scripted` runs a function of the test, the others fail, hang or kill their process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.db import connection
from rest_framework import serializers

from jobs.fields import StrictIntegerField
from jobs.operations import JobHandle, Operation, PermanentError
from operations.payments.charge import ChargePayment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

log = structlog.get_logger("workers.tests")

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
    """Returns its param `value`."""

    name = "test.anything"
    params = AnythingParams

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        return params["value"]


class NoParams(serializers.Serializer):
    """An operation without params."""


class Stuck(Operation):
    """Never calls `job.check()`, and never ends."""

    name = "test.stuck"
    params = NoParams
    max_attempts = 1
    timeout_seconds = 1

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        threading.Event().wait()


class Stubborn(Operation):
    """Suppresses every exception, so that only the end of its process stops it."""

    name = "test.stubborn"
    params = NoParams
    max_attempts = 1
    timeout_seconds = 1

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        while True:
            with contextlib.suppress(Exception):
                threading.Event().wait()


class Patient(Operation):
    """Calls `job.check()` in a loop until the check raises an exception."""

    name = "test.patient"
    params = NoParams

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        while True:
            job.check()
            threading.Event().wait(0.05)


class Deaf(Operation):
    """Its first attempt reports progress, then hangs. Later attempts succeed."""

    name = "test.deaf"
    params = NoParams

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        job.progress(job.attempt, 2)
        if job.attempt == 1:
            threading.Event().wait()


class MarkParams(serializers.Serializer):
    """The file to write to."""

    path = serializers.CharField()


class Mark(Operation):
    """Calls `job.check()`, then appends the attempt's number to a file. It records no effect."""

    name = "test.mark"
    params = MarkParams

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        job.check()
        with open(params["path"], "a", encoding="utf-8") as file:  # noqa: PTH123 - to append
            file.write(f"{job.attempt}\n")


class Quick(Operation):
    """Returns None at once."""

    name = "test.quick"
    params = NoParams
    timeout_seconds = 1

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        return None


def piece(number: int) -> bytes:
    """Return one MiB whose content depends on the number."""
    return number.to_bytes(8, "big") * (1024 * 1024 // 8)


class BigFileParams(serializers.Serializer):
    """The number of MiB, and where the first attempt is killed."""

    pieces = StrictIntegerField(min_value=1)
    dies_at = StrictIntegerField(min_value=0, required=False, default=-1)


class BigFile(Operation):
    """Makes a file of so many MiB; its first attempt may be killed before one of them."""

    name = "test.big_file"
    params = BigFileParams

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        def write(file: Any) -> None:
            for number in range(params["pieces"]):
                if number == params["dies_at"] and job.attempt == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                file.write(piece(number))
                job.check()

        return vars(job.artifact("big.bin", write, content_type="application/octet-stream"))


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


class BookedCharge(ChargePayment):
    """A charge that is written to a customer's account, in a commit of its own."""

    name = "test.booked_charge"
    CUSTOMER = "customer-1"

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        return super().perform({**params, "customer": self.CUSTOMER}, job)


class PoisonousCharge(Operation):
    """Kills its process in the middle of an effect in every attempt. The effect has no `reconcile`."""

    name = "test.poisonous_charge"
    params = NoParams
    max_attempts = 2

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        def call(_key: str) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

        return job.effect("charge", call, timeout=timedelta(seconds=1), key_window=timedelta(hours=24))


class _Knowing:
    """A job's handle that removes all options of effects except `timeout` and the named ones."""

    def __init__(self, job: JobHandle, offered: Collection[str]) -> None:
        self._job = job
        self._offered = {"timeout", *offered}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def effect(self, name: str, call: Callable[[str], Any], **options: Any) -> Any:
        return self._job.effect(name, call, **{key: value for key, value in options.items() if key in self._offered})


class BlindCharge(ChargePayment):
    """A charge without `key_window` and without `reconcile`."""

    name = "test.blind_charge"

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        return super().perform(params, _Knowing(job, ()))


class AskingCharge(ChargePayment):
    """A charge with one attempt, with `reconcile` and without `key_window`."""

    name = "test.asking_charge"
    max_attempts = 1

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        return super().perform(params, _Knowing(job, ("reconcile",)))


class LeakyParams(serializers.Serializer):
    """How to fail, and a secret that must not appear in logs."""

    way = serializers.CharField()
    secret = serializers.CharField()


class Leaky(Operation):
    """Fails in the given way, its secret in every text, frame and statement; or succeeds with it as its result."""

    name = "test.leaky"
    params = LeakyParams
    blind_effects = ("call",)
    max_attempts = 1
    timeout_seconds = 30

    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:
        secret = params["secret"]

        def quote(_key: str = "") -> Any:
            raise ValueError(f"cannot use {secret}") from KeyError(secret)

        match params["way"]:
            case "raise":
                quote()
            case "refuse":
                raise PermanentError(f"{secret} is refused", code="refused")
            case "effect":
                job.effect("call", quote, timeout=timedelta(seconds=1))
            case "statement":
                job.commit("write", lambda: self._write(secret))
            case "log":
                log.error("leaky", params=params, value=secret.encode(), wrapped={"params": params})
            case "warn":
                warnings.warn("an operation warns", stacklevel=1)
                # One write with its end of line: other processes write to the same file.
                print("an operation prints\n", end="", flush=True)  # noqa: T201
        return {"secret": secret}

    def _write(self, secret: str) -> None:
        with connection.cursor() as cursor:
            # Its DETAIL quotes the row.
            cursor.execute("INSERT INTO tenant (name) VALUES (%s), (%s)", [secret, secret])
