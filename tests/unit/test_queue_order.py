"""The order in which a worker polls its queues: by priority, except for every tenth message."""

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
    """Return the queue that is polled first, message by message, while no queue is empty."""
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


def test_a_queue_added_later_is_ordered_by_its_priority():
    assert cycle_of(["low", "reports", "default", "high"]).consume(4) == ["high", "default", "low", "reports"]
    assert [priority.name.lower() for priority in Priority] == QUEUES
    assert "reports" in delivered_first(40, [*QUEUES, "reports"])


def test_both_families_are_ordered_by_priority_and_take_turns():
    both = [*QUEUES, *(f"io-{queue}" for queue in QUEUES)]
    cycle = cycle_of(both)
    assert cycle.consume(6) == ["high", "io-high", "default", "io-default", "low", "io-low"]
    cycle.rotate("high")
    assert cycle.consume(6) == ["io-high", "high", "io-default", "default", "io-low", "low"]
    assert set(delivered_first(100, both)) == set(both)


def test_a_lower_priority_has_its_turn_as_often_with_both_families():
    both = [*QUEUES, *(f"io-{queue}" for queue in QUEUES)]
    priorities = [queue.removeprefix("io-") for queue in delivered_first(40, both)]
    assert priorities == delivered_first(40)


def test_each_lower_queue_has_its_turn():
    assert delivered_first(40) == [
        *(["high"] * 9 + ["default"]),
        *(["high"] * 9 + ["low"]),
        *(["high"] * 9 + ["default"]),
        *(["high"] * 9 + ["low"]),
    ]


def test_when_a_lower_queue_comes_first_the_rest_keeps_its_order():
    cycle = cycle_of(QUEUES)
    for _ in range(19):
        cycle.rotate("high")
    assert cycle.consume(3) == ["low", "high", "default"]


def test_an_empty_poll_does_not_count():
    cycle = cycle_of(QUEUES)
    assert [cycle.consume(3)[0] for _ in range(50)] == ["high"] * 50


def test_a_worker_of_one_queue_polls_it():
    assert delivered_first(12, ["maintenance"]) == ["maintenance"] * 12


def test_a_removed_queue_is_not_polled():
    cycle = cycle_of(QUEUES)
    cycle.update(["high", "low"])
    assert cycle.consume(2) == ["high", "low"]
