"""Patches of kombu's Redis transport, in a worker's main process."""

from queue import Empty
from typing import Any

from django.conf import settings
from kombu.transport import redis

from foundation.fault_points import reach
from observability.liveness import LivenessFile

_liveness_file = LivenessFile(settings.PROCESS_KIND)
_brpop_read = redis.Channel._brpop_read  # noqa: SLF001 - kombu has no other hook for the answer to a poll


class _QoS(redis.QoS):
    """Frees a message's place in the worker even if its acknowledgement failed (celery#8030: a worker that stops consuming).

    Kombu does not free the place, and Celery ignores the error. After a few lost connections every place would be taken by
    a message that
    is long done. The message itself is redelivered after the visibility timeout, and its claim finds no row.
    """

    def can_consume(self) -> bool:
        """Return whether there is a free place. The worker's loop calls this in each round.

        A worker without a free place is busy, so it is marked as alive.
        """
        has_place = bool(super().can_consume())
        if not has_place:
            _liveness_file.touch()
        return has_place

    def ack(self, delivery_tag: str) -> None:
        try:
            reach("before_ack")
            super().ack(delivery_tag)
        finally:
            self._dirty.add(delivery_tag)


def _read_poll(self: redis.Channel, **options: Any) -> Any:  # noqa: ANN401 - kombu's signature
    """Mark the worker as alive when the broker answers a poll, with or without a message (celery#4079: liveness probes).

    Celery's own `inspect ping` also succeeds while a worker no longer receives messages.
    """
    try:
        answer = _brpop_read(self, **options)
    except Empty:
        _liveness_file.touch()
        raise
    _liveness_file.touch()
    return answer


def patch_kombu() -> None:
    """Apply both patches. Must run before the first connection."""
    redis.Channel.QoS = _QoS
    setattr(redis.Channel, "_brpop_read", _read_poll)  # noqa: B010 - mypy refuses to assign a method
