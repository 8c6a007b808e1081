"""Which queue a worker looks into first: by priority, but for every tenth message."""

from __future__ import annotations

from kombu.utils.scheduling import cycle_by_name

from config.settings import CELERY_BROKER_TRANSPORT_OPTIONS
from jobs.models import Priority

QUEUES = ["high", "default", "low"]


def cycle_of(queues):
    cycle = cycle_by_name(CELERY_BROKER_TRANSPORT_OPTIONS["queue_order_strategy"])()
    cycle.update(queues)
    return cycle


def delivered_first(count, queues=QUEUES):
    """Each queue that is looked into first, message by message, while none of them is empty."""
    cycle = cycle_of(queues)
    seen = []
    for _ in range(count):
        order = cycle.consume(len(queues))
        assert sorted(order) == sorted(queues)
        seen.append(order[0])
        cycle.rotate(order[0])
    return seen


def test_high_comes_first_and_then_default():
    assert cycle_of(QUEUES).consume(3) == QUEUES


def test_a_queue_that_was_added_later_has_the_place_of_its_priority():
    assert cycle_of(["low", "reports", "default", "high"]).consume(4) == ["high", "default", "low", "reports"]
    assert [priority.name.lower() for priority in Priority] == QUEUES
    assert "reports" in delivered_first(40, [*QUEUES, "reports"])


def test_each_lower_queue_has_its_turn():
    assert delivered_first(40) == [
        *(["high"] * 9 + ["default"]),
        *(["high"] * 9 + ["low"]),
        *(["high"] * 9 + ["default"]),
        *(["high"] * 9 + ["low"]),
    ]


def test_at_a_turn_of_another_the_rest_keeps_its_order():
    cycle = cycle_of(QUEUES)
    for _ in range(19):
        cycle.rotate("high")
    assert cycle.consume(3) == ["low", "high", "default"]


def test_looking_in_vain_is_no_turn():
    cycle = cycle_of(QUEUES)
    assert [cycle.consume(3)[0] for _ in range(50)] == ["high"] * 50


def test_a_worker_of_one_queue_looks_there():
    assert delivered_first(12, ["maintenance"]) == ["maintenance"] * 12


def test_a_queue_that_is_not_served_any_more_is_not_looked_into():
    cycle = cycle_of(QUEUES)
    cycle.update(["high", "low"])
    assert cycle.consume(2) == ["high", "low"]
