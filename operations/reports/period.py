"""The days of a report, in UTC, first and last day included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """Whole days from the first to the last, and the number of jobs on each day once they were counted."""

    first: date
    last: date
    jobs_per_day: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"

    @property
    def starts_at(self) -> datetime:
        return _midnight(self.first)

    @property
    def ends_at(self) -> datetime:
        """Return the first instant after the period, or the calendar's last instant on its last day."""
        return datetime.max.replace(tzinfo=UTC) if self.last == date.max else _midnight(self.last + DAY)

    def days(self) -> Iterator[Period]:
        """Yield each day as a period of its own."""
        for number in range((self.last - self.first).days + 1):
            day = self.first + number * DAY
            yield Period(day, day)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
