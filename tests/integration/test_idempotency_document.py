"""Run the code blocks of docs/how-to/idempotency.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from idempotency import key_lifetime
from tests.support.idempotent_view import handle_exception, send

pytestmark = pytest.mark.django_db(transaction=True)

DOCUMENT = Path(__file__).parents[2] / "docs" / "how-to" / "idempotency.md"


@pytest.fixture
def example(settings, monkeypatch):
    """Return what the guide's code blocks define, run in order with the functions that they assume."""
    settings.IDEMPOTENCY_SCOPE = "tests.support.idempotent_view.scope_of"
    monkeypatch.setattr(key_lifetime, "_ended_filters", [])
    booked, refunded = [], []
    names = {
        "book_refund": lambda charge: booked.append(charge) or len(booked),
        "ended_refunds": set,
        "mark_refunded": refunded.append,
        "booked": booked,
        "refunded": refunded,
    }
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(block, str(DOCUMENT), "exec"), names)  # noqa: S102 - our own guide
    view = names["RefundsView"]
    view.authentication_classes = view.permission_classes = view.throttle_classes = ()
    view.get_exception_handler = lambda _view: handle_exception
    return names


def test_the_view_in_the_guide_takes_effect_once(example):
    first, again = (send({"charge": "ch_1"}, view=example["RefundsView"]) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert again["Idempotency-Replayed"] == "true"
    assert example["booked"] == ["ch_1"]
    assert key_lifetime.has_ended("refund/1")


def test_the_consumer_in_the_guide_handles_a_message_once(example):
    for _ in range(2):
        example["on_refund_event"]("msg_1", 7)
    assert example["refunded"] == [7]
