"""A slow request is not refused: only its wait for another request under the same key is limited."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db.models import F
from rest_framework.response import Response

from foundation import fault_points
from idempotency import accept, key_lifetime
from idempotency.http import idempotent
from idempotency.models import IdempotencyRecord
from idempotency.parsers import ExactJSONParser
from tests.support.idempotent_view import OpenView, send

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, LONG = 3600.0, timedelta(days=3)


class Clock(SimpleNamespace):
    """The clock that `idempotency.accept` reads."""

    def monotonic(self):
        return self.now


CLOCK = Clock(now=0.0)


class SlowBody(ExactJSONParser):
    """Takes an hour to receive the body."""

    def parse(self, *arguments, **options):
        CLOCK.now += HOUR
        return super().parse(*arguments, **options)


def validate_slowly(_view, _request):
    CLOCK.now += HOUR
    return "validated"


class SlowUpload(OpenView):
    parser_classes = (SlowBody,)

    @idempotent(required=True)
    def post(self, request):
        return Response({"amount": request.data["amount"]}, status=201)


class SlowValidation(OpenView):
    @idempotent(required=True, validate=validate_slowly)
    def post(self, _request, validated):
        return Response({"amount": validated}, status=201)


@pytest.fixture(autouse=True)
def _clock(settings, monkeypatch):
    settings.IDEMPOTENCY_SCOPE = "tests.support.idempotent_view.scope_of"
    settings.IDEMPOTENCY_FINGERPRINT_KEYS = ["k1:one secret"]
    settings.IDEMPOTENCY_WAIT_SECONDS = 1.0
    monkeypatch.setattr(accept, "time", CLOCK)
    monkeypatch.setattr(key_lifetime, "_ended_filters", [])


@pytest.mark.parametrize("view", [SlowUpload, SlowValidation])
def test_a_request_slower_than_a_duplicates_wait_is_accepted(view):
    first, again = send(view=view), send(view=view)
    assert [first.status_code, again.status_code] == [201, 201]
    assert (first["Idempotency-Replayed"], again["Idempotency-Replayed"]) == ("false", "true")
    assert first.content == again.content
    assert IdempotencyRecord.objects.count() == 1


def test_a_slow_request_under_an_expired_key_is_accepted():
    send(view=SlowUpload)
    IdempotencyRecord.objects.update(created_at=F("created_at") - LONG, expires_at=F("expires_at") - LONG)
    again = send({"amount": 2}, view=SlowUpload)
    assert (again.status_code, again["Idempotency-Replayed"]) == (201, "false")


@pytest.mark.parametrize("point", ["before_key", "before_job", "before_commit"])
def test_a_first_request_that_is_stopped_at_any_point_is_accepted(point):
    def stop_for_an_hour(reached):
        if reached == point:
            CLOCK.now += HOUR

    with fault_points.watch(stop_for_an_hour):
        first = send(view=SlowUpload)
    assert (first.status_code, first["Idempotency-Replayed"]) == (201, "false")


def test_a_first_request_that_waits_for_no_other_is_accepted_however_slow(settings):
    settings.IDEMPOTENCY_WAIT_SECONDS = 0.0
    first = send(view=SlowUpload)
    assert (first.status_code, first["Idempotency-Replayed"]) == (201, "false")
