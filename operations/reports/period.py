"""The days of a report, in UTC, the first and the last included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """From the beginning of its first day to the end of its last; how many jobs each of its days had, once that is known."""

    first: date
    last: date
    jobs_per_day: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"

    @property
    def starts_at(self) -> datetime:
        """The first instant."""
        return _midnight(self.first)

    @property
    def ends_at(self) -> datetime:
        """The first instant that is not in it any more; on the calendar's last day, its last."""
        return datetime.max.replace(tzinfo=UTC) if self.last == date.max else _midnight(self.last + DAY)

    def days(self) -> Iterator[Period]:
        """Each of its days as a period of its own."""
        for number in range((self.last - self.first).days + 1):
            day = self.first + number * DAY
            yield Period(day, day)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
