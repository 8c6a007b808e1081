"""A job's life as bars: accepted, waiting, each attempt with its steps, what people asked for, the end.

Pure: rows in, places in percent out. Long pauses are shortened, so that two milliseconds of work can be seen beside a
weekend of waiting; the order is true, and each bar says its real times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from jobs.models import JobAttempt, JobStep
from jobs.states import Event, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    from jobs.models import JobEvent
    from operators.inspection import Examined

# Of the drawing's width: what a bar needs in order to be seen.
_LEAST_WIDTH = 0.6
# Seconds up to which a pause is drawn about as long as it was; beyond, ten times the time is a little more room.
_TRUE_SECONDS = 0.02


class Tone(StrEnum):
    """How a bar is coloured; its text says the same."""

    WAITING = "waiting"
    LIVE = "live"
    GOOD = "good"
    BAD = "bad"
    DOUBT = "doubt"
    QUIET = "quiet"


@dataclass(frozen=True, kw_only=True)
class Span:
    """Something that lasted, or (start = end) was an instant. end None: it goes on."""

    label: str
    tone: Tone
    start: datetime
    end: datetime | None
    said: str = ""
    depth: int = 0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A span with its place, in percent of the drawing's width."""

    span: Span
    left: float
    width: float
    lasted: str

    @property
    def is_instant(self) -> bool:
        """Whether it is drawn as a mark."""
        return self.span.start == self.span.end


@dataclass(frozen=True)
class Timeline:
    """The bars, the first on top."""

    bars: list[Bar]
    start: datetime
    end: datetime
    lasted: str


_QUEUED_BY = (Event.SUBMIT, Event.RETRY, Event.POSTPONE, Event.EXPIRE, Event.REDRIVE, Event.RESOLVE)
_MARKS = {
    "cancel-requested": "Cancel asked for",
    "cancel-declined": "Cancel declined: something had been done",
    "late-effect": "A stale attempt heard late from the world",
    "redrive": "Redriven",
    "resolve": "Resolved",
    "lapse": "Deadline passed",
    "payload-erased": "Payload erased",
}
_TONES = {
    JobAttempt.Outcome.SUCCEEDED: Tone.GOOD,
    JobAttempt.Outcome.FAILED: Tone.BAD,
    JobAttempt.Outcome.RETRIED: Tone.BAD,
    JobAttempt.Outcome.EXPIRED: Tone.BAD,
    JobAttempt.Outcome.IN_DOUBT: Tone.DOUBT,
    JobAttempt.Outcome.POSTPONED: Tone.QUIET,
    JobAttempt.Outcome.CANCELED: Tone.QUIET,
    JobStep.State.STARTED: Tone.DOUBT,
    JobStep.State.DONE: Tone.GOOD,
    JobStep.State.NOT_DONE: Tone.QUIET,
    JobStep.State.REFUSED: Tone.BAD,
    JobStep.State.COMPENSATED: Tone.QUIET,
}
_ENDS = {
    State.SUCCEEDED: Tone.GOOD,
    State.FAILED: Tone.BAD,
    State.CANCELED: Tone.QUIET,
    State.UNKNOWN: Tone.DOUBT,
}
_OUTCOMES = {
    JobAttempt.Outcome.SUCCEEDED: "succeeded",
    JobAttempt.Outcome.FAILED: "failed for good",
    JobAttempt.Outcome.RETRIED: "failed, to be tried again",
    JobAttempt.Outcome.POSTPONED: "put off, at no charge",
    JobAttempt.Outcome.EXPIRED: "lost its lease",
    JobAttempt.Outcome.IN_DOUBT: "ended in doubt",
    JobAttempt.Outcome.CANCELED: "canceled",
}


def timeline_of(examined: Examined) -> Timeline:
    """The job's life so far. What is not over reaches to now."""
    spans = sorted(_spans(examined), key=lambda span: span.start)
    now = max(examined.now, *(span.end or span.start for span in spans))
    has_open = any(span.end is None for span in spans)
    end = now if has_open else max(span.end or now for span in spans)
    place = _Axis([spans[0].start, end, *(at for span in spans for at in (span.start, span.end or end))])
    bars = [
        Bar(
            span=span,
            left=min(place(span.start), 100 - _LEAST_WIDTH),
            width=max(place(span.end or end) - place(span.start), _LEAST_WIDTH),
            lasted=lasted((span.end or end) - span.start),
        )
        for span in spans
    ]
    return Timeline(bars, spans[0].start, end, lasted(end - spans[0].start))


def lasted(duration: timedelta) -> str:
    """A duration for people: 12 ms, 1.4 s, 2 min 5 s, 3 h 20 min, 2 d 4 h."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    whole = round(seconds)
    first = next(index for index, (_, size) in enumerate(units) if whole >= size)
    (name, size), (next_name, next_size) = units[first], units[first + 1]
    rest = whole % size // next_size
    return f"{whole // size} {name}" + (f" {rest} {next_name}" if rest else "")


class _Axis:
    """From an instant to percent. Between two neighbours the room grows with the logarithm of the time."""

    def __init__(self, instants: Iterable[datetime]) -> None:
        known = sorted({*instants})
        self._places = {known[0]: 0.0}
        for before, after in pairwise(known):
            room = math.log1p((after - before).total_seconds() / _TRUE_SECONDS)
            self._places[after] = self._places[before] + room
        self._whole = self._places[known[-1]] or 1.0

    def __call__(self, at: datetime) -> float:
        return round(100 * self._places[at] / self._whole, 2)


def _spans(examined: Examined) -> Iterator[Span]:
    job = examined.job
    yield Span(
        label="Accepted",
        tone=Tone.QUIET,
        start=job.created_at,
        end=job.created_at,
        said=f"key {job.idempotency_key}" if job.idempotency_key else "without a key",
    )
    yield from _waits(examined)
    for attempt in examined.attempts:
        outcome = attempt.outcome and JobAttempt.Outcome(attempt.outcome)
        yield Span(
            label=f"Attempt {attempt.number}",
            tone=_TONES[outcome] if outcome else Tone.LIVE,
            start=attempt.started_at,
            end=attempt.ended_at,
            said=f"{_OUTCOMES[outcome] if outcome else 'is running'}, on {attempt.worker}",
        )
    for step in examined.steps:
        yield Span(
            label=f"{step.get_kind_display()} {step.name}",
            tone=_TONES[JobStep.State(step.state)],
            start=step.first_started_at,
            end=step.ended_at,
            said=step.state.replace("_", " "),
            depth=1,
        )
    yield from _marks(examined.events)
    yield from _end(examined)


def _waits(examined: Examined) -> Iterator[Span]:
    """From whatever queued the job to the claim that followed. When it was published is not kept."""
    since: JobEvent | None = None
    for event in examined.events:
        if event.type == Event.CLAIM and since is not None:
            said = "published, then claimed"
            yield Span(
                label="Waiting", tone=Tone.WAITING, start=since.created_at, end=event.created_at, said=said
            )
        since = event if event.type in _QUEUED_BY else since if event.type not in set(Event) else None
    job = examined.job
    if since is not None and job.state == State.QUEUED:
        again = f"; published again {job.publications} times" if job.publications else ""
        due = f"due at {job.run_at:%H:%M:%S}" if job.run_at > examined.now else "due"
        yield Span(label="Waiting", tone=Tone.WAITING, start=since.created_at, end=None, said=f"{due}{again}")


def _marks(events: Sequence[JobEvent]) -> Iterator[Span]:
    for event in events:
        if event.type in _MARKS:
            by = f"by {event.data['by']}" if event.data.get("by") else ""
            yield Span(
                label=_MARKS[event.type],
                tone=Tone.QUIET,
                start=event.created_at,
                end=event.created_at,
                said=by,
            )


def _end(examined: Examined) -> Iterator[Span]:
    """The mark of the end, or of where the job stopped for a person."""
    job, state = examined.job, State(examined.job.state)
    at = job.finished_at or (examined.events[-1].created_at if examined.events else job.created_at)
    if state.is_settled:
        yield Span(label=f"Settled: {state}", tone=_ENDS[state], start=at, end=at)
