"""In which order a worker looks into its queues (settings.CELERY_BROKER_TRANSPORT_OPTIONS["queue_order_strategy"])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kombu.utils.scheduling import priority_cycle

if TYPE_CHECKING:
    from collections.abc import Iterable

# jobs.models.Priority by name; not imported, since kombu looks for this class where no app is loaded.
_BY_PRIORITY = ("high", "default", "low")

# One message in ten is taken from a lower queue first, if one waits there. Strictly by priority, an endless stream of high
# jobs would keep the low ones waiting for ever; a tenth costs the high ones little and lets every queue be emptied some day.
_FOR_THE_OTHERS = 10


class PriorityOrder(priority_cycle):
    """High goes before default, default before low, and low before any other queue; but no queue is starved.

    The lower queues take turns with every tenth message. Redis serves the first key of a BRPOP that is not empty, so the
    order of the names is the order of the messages. Kombu's own choice, round robin, knows no priority.
    """

    _delivered = 0  # messages, by this channel

    def update(self, it: Iterable[str]) -> None:
        """These are the queues from now on, in whatever order they were named, or added by `control add_consumer`."""
        self.items[:] = sorted(it, key=_rank)

    def consume(self, n: int) -> list[str]:
        """The queues in the order in which the next message is looked for."""
        queues: list[str] = self.items[:n]
        turn, place = divmod(self._delivered, _FOR_THE_OTHERS)
        if place < _FOR_THE_OTHERS - 1 or len(queues) < 2:  # noqa: PLR2004 - nothing to order
            return queues
        first = 1 + turn % (len(queues) - 1)
        return [queues[first], *queues[:first], *queues[first + 1 :]]

    def rotate(self, last_used: str) -> None:  # noqa: ARG002 - kombu's signature
        """One more message was delivered; looks that found nothing do not count."""
        self._delivered += 1


def _rank(queue: str) -> int:
    return _BY_PRIORITY.index(queue) if queue in _BY_PRIORITY else len(_BY_PRIORITY)
