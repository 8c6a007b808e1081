"""A job's history as bars: accepted, waiting, attempts with their steps, what operators did, the end.

It converts rows to positions in percent. Long pauses are drawn shorter, so that milliseconds of work are visible beside days of
waiting. The order is correct, and each bar shows its exact times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from jobs.models import JobAttempt, JobStep
from jobs.states import Event, State

if TYPE_CHECKING:
    from jobs.models import JobEvent
    from operators.job_detail import JobDetail

# Percent of the drawing's width: narrower bars would be invisible.
_MIN_WIDTH = 0.6
# Up to this many seconds a pause is drawn in proportion; beyond, its width grows with the logarithm.
_LINEAR_SECONDS = 0.02


class Tone(StrEnum):
    """A bar's colour. Its text carries the same meaning."""

    WAITING = "waiting"
    LIVE = "live"
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    QUIET = "quiet"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A period, or an instant if start equals end. An `end` of None means that it has not ended."""

    label: str
    tone: Tone
    start: datetime
    end: datetime | None
    text: str = ""
    depth: int = 0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A span with its position in percent of the drawing's width."""

    span: Span
    left: float
    width: float
    duration: str

    @property
    def is_instant(self) -> bool:
        return self.span.start == self.span.end


@dataclass(frozen=True)
class Timeline:
    """The bars from top to bottom."""

    bars: list[Bar]
    start: datetime
    end: datetime
    duration: str


_QUEUING_EVENTS = (Event.SUBMIT, Event.RETRY, Event.POSTPONE, Event.EXPIRE, Event.REDRIVE, Event.RESOLVE)
_MARKS = {
    "cancel-requested": "Cancel requested",
    "cancel-declined": "Cancel declined: effects were done",
    "late-effect": "Late result of a stale attempt",
    "redrive": "Redriven",
    "resolve": "Resolved",
    "lapse": "Deadline exceeded",
    "payload-erased": "Payload erased",
}
_OUTCOMES = {
    JobAttempt.Outcome.SUCCEEDED: (Tone.GOOD, "succeeded"),
    JobAttempt.Outcome.FAILED: (Tone.BAD, "failed"),
    JobAttempt.Outcome.RETRIED: (Tone.BAD, "failed, to be retried"),
    JobAttempt.Outcome.EXPIRED: (Tone.BAD, "lease expired"),
    JobAttempt.Outcome.OUTCOME_UNKNOWN: (Tone.WARN, "outcome unknown"),
    JobAttempt.Outcome.POSTPONED: (Tone.QUIET, "postponed"),
    JobAttempt.Outcome.CANCELED: (Tone.QUIET, "canceled"),
}
_STEP_TONES = {
    JobStep.State.STARTED: Tone.WARN,
    JobStep.State.DONE: Tone.GOOD,
    JobStep.State.NOT_DONE: Tone.QUIET,
    JobStep.State.REFUSED: Tone.BAD,
    JobStep.State.COMPENSATED: Tone.QUIET,
}
_END_TONES = {State.SUCCEEDED: Tone.GOOD, State.FAILED: Tone.BAD, State.CANCELED: Tone.QUIET, State.UNKNOWN: Tone.WARN}


def build_timeline(detail: JobDetail) -> Timeline:
    """Return the job's history so far. A span that has not ended reaches to now."""
    spans = sorted(_spans(detail), key=lambda span: span.start)
    now = max(detail.now, *(span.end or span.start for span in spans))
    has_open = any(span.end is None for span in spans)
    end = now if has_open else max(span.end or now for span in spans)
    positions = _positions([end, *(at for span in spans for at in (span.start, span.end or end))])
    bars = [
        Bar(
            span=span,
            left=min(positions[span.start], 100 - _MIN_WIDTH),
            width=max(positions[span.end or end] - positions[span.start], _MIN_WIDTH),
            duration=format_duration((span.end or end) - span.start),
        )
        for span in spans
    ]
    return Timeline(bars, spans[0].start, end, format_duration(end - spans[0].start))


def format_duration(duration: timedelta) -> str:
    """Return a readable duration: 12 ms, 1.4 s, 2 min 5 s, 3 h 20 min, 2 d 4 h."""
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


def describe_outcome(attempt: JobAttempt) -> tuple[Tone, str]:
    """Return how the attempt ended, or that it is running."""
    return _OUTCOMES[JobAttempt.Outcome(attempt.outcome)] if attempt.outcome else (Tone.LIVE, "running")


def _positions(instants: Iterable[datetime]) -> dict[datetime, float]:
    """Return each instant's position in percent. The width between neighbours grows with the logarithm of the time."""
    ordered = sorted({*instants})
    positions = {ordered[0]: 0.0}
    for before, after in pairwise(ordered):
        width = math.log1p((after - before).total_seconds() / _LINEAR_SECONDS)
        positions[after] = positions[before] + width
    total = positions[ordered[-1]] or 1.0
    return {at: round(100 * position / total, 2) for at, position in positions.items()}


def _mark(label: str, tone: Tone, at: datetime, text: str = "") -> Span:
    return Span(label=label, tone=tone, start=at, end=at, text=text)


def _spans(detail: JobDetail) -> Iterator[Span]:
    job = detail.job
    key = f"key {job.idempotency_key}" if job.idempotency_key else "without a key"
    yield _mark("Accepted", Tone.QUIET, job.created_at, key)
    yield from _waits(detail)
    for attempt in detail.attempts:
        tone, text = describe_outcome(attempt)
        yield Span(
            label=f"Attempt {attempt.number}",
            tone=tone,
            start=attempt.started_at,
            end=attempt.ended_at,
            text=f"{text}, on {attempt.worker}",
        )
    for step in detail.steps:
        yield Span(
            label=f"{step.get_kind_display()} {step.name}",
            tone=_STEP_TONES[JobStep.State(step.state)],
            start=step.first_started_at,
            end=step.ended_at,
            text=step.state.replace("_", " "),
            depth=1,
        )
    for event in detail.events:
        if event.type in _MARKS:
            by = f"by {event.data['by']}" if event.data.get("by") else ""
            yield _mark(_MARKS[event.type], Tone.QUIET, event.created_at, by)
    state = State(job.state)
    if state.is_settled:
        last = detail.events[-1].created_at if detail.events else job.created_at
        yield _mark(f"Settled: {state}", _END_TONES[state], job.finished_at or last)


def _waits(detail: JobDetail) -> Iterator[Span]:
    """Yield the periods from each event that queued the job to the claim after it."""
    queued: JobEvent | None = None
    for event in detail.events:
        if event.type == Event.CLAIM and queued is not None:
            yield _wait(queued, event.created_at, "then claimed")
        if event.type in set(Event):
            queued = event if event.type in _QUEUING_EVENTS else None
    job = detail.job
    if queued is not None and job.state == State.QUEUED:
        due = f"due at {job.run_at:%H:%M:%S}" if job.run_at > detail.now else "due"
        yield _wait(queued, None, f"{due}; held: paused, blocked or unknown" if job.held else due)


def _wait(queued: JobEvent, end: datetime | None, text: str) -> Span:
    return Span(label="Waiting", tone=Tone.WAITING, start=queued.created_at, end=end, text=text)
