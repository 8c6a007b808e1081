"""Several kinds of work in batches, by turns, within a time: none of them can starve another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import structlog
from django.db import DatabaseError, connection

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger(__name__)

T = TypeVar("T")


def take_turns(*kinds: Iterator[T], seconds: float | None) -> Iterator[T]:
    """A batch of each kind, round by round, until none has more, or the time is over at a round's end.

    So each kind gets one batch at least, however short the time; None: as long as it takes. A kind whose batch the
    database refuses is told and left out until the next run; a database that is gone ends them all.
    """
    ends_at = None if seconds is None else time.monotonic() + seconds
    going = list(kinds)
    while going:
        for kind in list(going):
            try:
                yield next(kind)
            except StopIteration:
                going.remove(kind)
            except DatabaseError:
                if not connection.is_usable():
                    raise
                log.exception("batch.failed")
                going.remove(kind)
        if ends_at is not None and time.monotonic() >= ends_at:
            return
