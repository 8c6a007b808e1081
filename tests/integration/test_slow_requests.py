"""A request is not refused for being slow itself: what is bounded is its wait for another one under the same key."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db.models import F
from rest_framework.response import Response

from idempotency import accept, key_lifetime
from idempotency.http import idempotent
from idempotency.models import IdempotencyRecord
from idempotency.parsers import ExactJSONParser
from tests.support.idempotent_view import OpenView, code_of, send

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, LONG = 3600.0, timedelta(days=3)


class Clock(SimpleNamespace):
    """What `idempotency.accept` reads as the time."""

    def monotonic(self):
        return self.now


CLOCK = Clock(now=0.0)


class SlowBody(ExactJSONParser):
    """The body takes an hour to come."""

    def parse(self, *arguments, **options):
        CLOCK.now += HOUR
        return super().parse(*arguments, **options)


def validate_for_long(_view, _request):
    CLOCK.now += HOUR
    return "validated"


class Uploads(OpenView):
    parser_classes = (SlowBody,)

    @idempotent(required=True)
    def post(self, request):
        return Response({"amount": request.data["amount"]}, status=201)


class Deliberations(OpenView):
    @idempotent(required=True, validate=validate_for_long)
    def post(self, _request, validated):
        return Response({"amount": validated}, status=201)


@pytest.fixture(autouse=True)
def _clock(settings, monkeypatch):
    settings.IDEMPOTENCY_SCOPE = "tests.support.idempotent_view.scope_of"
    settings.IDEMPOTENCY_FINGERPRINT_KEYS = ["k1:one secret"]
    settings.IDEMPOTENCY_WAIT_SECONDS = 1.0
    monkeypatch.setattr(accept, "time", CLOCK)
    monkeypatch.setattr(key_lifetime, "_ended_filters", [])


@pytest.mark.parametrize("view", [Uploads, Deliberations])
def test_a_request_that_takes_longer_than_a_duplicate_may_wait_is_accepted_all_the_same(view):
    first, again = send(view=view), send(view=view)
    assert [first.status_code, again.status_code] == [201, 201]
    assert (first["Idempotency-Replayed"], again["Idempotency-Replayed"]) == ("false", "true")
    assert first.content == again.content
    assert IdempotencyRecord.objects.count() == 1


def test_a_slow_request_under_an_expired_key_is_accepted_too():
    send(view=Uploads)
    IdempotencyRecord.objects.update(created_at=F("created_at") - LONG, expires_at=F("expires_at") - LONG)
    again = send({"amount": 2}, view=Uploads)
    assert (again.status_code, again["Idempotency-Replayed"]) == (201, "false")


def test_without_any_time_to_wait_it_would_be_refused(settings):
    """The clock of these tests is the one that decides."""
    settings.IDEMPOTENCY_WAIT_SECONDS = 0.0
    assert code_of(send(view=Uploads)) == "RequestInProgress"
