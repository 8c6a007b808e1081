"""The order in which a worker polls its queues (CELERY_BROKER_TRANSPORT_OPTIONS["queue_order_strategy"])."""

from collections.abc import Iterable

from kombu.utils.scheduling import priority_cycle

# As jobs.submission.queue_of names them. Not imported: kombu loads this class where no Django app is loaded.
_RANKS = {f"{family}{name}": rank for rank, name in enumerate(("high", "default", "low")) for family in ("", "io-")}

# For every tenth message a lower queue is polled first. With strict priority, a constant load of high jobs would starve the low
# ones. One message in ten costs the high jobs little and makes sure that every queue is served.
_LOWER_FIRST_EVERY = 10


class PriorityOrder(priority_cycle):
    """High before default before low before any other queue, except for every tenth message: no queue is starved.

    For every tenth message one of the lower priorities is polled first, each in turn. In a worker that consumes both
    families, the two queues of a priority take turns, and a priority has its turn as often as with one family. BRPOP
    takes a message from the first of its keys that is not empty, so the order of the names is the order of the
    messages. Kombu's default (round robin) ignores priority.
    """

    _delivered = 0  # messages, by this channel

    def update(self, it: Iterable[str]) -> None:
        """Set the queues, in whatever order they were named or added by `control add_consumer`."""
        self.items[:] = sorted(it, key=_rank)

    def consume(self, n: int) -> list[str]:
        """Return the queues in the order in which the next message is looked for."""
        queues = _in_order(self.items[:n], is_io_first=self._delivered % 2 == 1)
        turn, place = divmod(self._delivered, _LOWER_FIRST_EVERY)
        lower = list(dict.fromkeys(map(_priority, queues)))[1:]
        if place < _LOWER_FIRST_EVERY - 1 or not lower:
            return queues
        priority = lower[turn % len(lower)]
        preferred = [queue for queue in queues if _priority(queue) == priority]
        # Every tenth message is one of the same family: here the families take turns by their own count.
        preferred = _in_order(preferred, is_io_first=turn // len(lower) % 2 == 1)
        return [*preferred, *(queue for queue in queues if queue not in preferred)]

    def rotate(self, last_used: str) -> None:  # noqa: ARG002 - kombu's signature
        """Count one delivered message. Polls that found nothing do not count."""
        self._delivered += 1


def _rank(queue: str) -> int:
    return _RANKS.get(queue, len(_RANKS))


def _priority(queue: str) -> str:
    """Return what both families' queues of one priority share; a queue of another name is a priority of its own."""
    return queue.removeprefix("io-") if queue in _RANKS else queue


def _in_order(queues: Iterable[str], *, is_io_first: bool) -> list[str]:
    return sorted(queues, key=lambda queue: (_rank(queue), queue.startswith("io-") != is_io_first))
