"""Several kinds of batched work, interleaved within a time budget so that none of them starves another."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self, TypeVar

import structlog
from django.db import DatabaseError, connection

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class BatchCounts:
    """What batches did: numbers that can be added up. Subclasses name them."""

    def __add__(self, other: Self) -> Self:
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return type(self)(**sums)

    @property
    def is_empty(self) -> bool:
        """Return whether nothing was done."""
        return not any(vars(self).values())


def interleave_batches(*kinds: Iterator[T], seconds: float | None) -> Iterator[T]:
    """Yield a batch of each kind, round by round, until none has more or the time is over at the end of a round.

    So each kind gets at least one batch; `seconds` None means no limit. A kind whose batch raises a DatabaseError is logged and
    left out of this run. If the database is gone, all kinds end.
    """
    ends_at = None if seconds is None else time.monotonic() + seconds
    remaining = list(kinds)
    while remaining:
        for kind in list(remaining):
            try:
                yield next(kind)
            except StopIteration:
                remaining.remove(kind)
            except DatabaseError:
                if not connection.is_usable():
                    raise
                log.exception("batch.failed")
                remaining.remove(kind)
        if ends_at is not None and time.monotonic() >= ends_at:
            return
