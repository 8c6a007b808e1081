"""The timeline of a job: its bars, their order, and their positions for any times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.models import Job, JobAttempt, JobEvent, JobStep
from jobs.states import State
from operators.job_detail import JobDetail
from operators.timeline import Tone, build_timeline, format_duration

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def job_detail(*, state=State.QUEUED, finished=None, attempts=(), steps=(), events=((0, "submit"),), now=60.0):
    job = Job(
        state=state,
        created_at=NOON,
        run_at=NOON,
        finished_at=None if finished is None else at(finished),
        idempotency_key="order-1",
    )
    numbered = enumerate(events, start=1)
    history = [JobEvent(seq=seq, type=name, created_at=at(when), data={}) for seq, (when, name) in numbered]
    return JobDetail(job=job, attempts=list(attempts), steps=list(steps), events=history, record=None, now=at(now))


def attempt(number, begin, end, outcome):
    ended = None if end is None else at(end)
    return JobAttempt(number=number, worker="w:1", started_at=at(begin), ended_at=ended, outcome=outcome)


def effect(begin, end, state):
    ended = None if end is None else at(end)
    return JobStep(
        name="charge", kind="effect", state=state, first_started_at=at(begin), last_started_at=at(begin), ended_at=ended
    )


def test_the_timeline_goes_from_accepted_to_settled():
    detail = job_detail(
        state=State.SUCCEEDED,
        finished=9,
        attempts=[attempt(1, 1, 3, "retry"), attempt(2, 5, 9, "succeed")],
        steps=[effect(2, 8, "done")],
        events=[(0, "submit"), (1, "claim"), (3, "retry"), (5, "claim"), (9, "succeed")],
    )
    bars = build_timeline(detail).bars
    assert [(bar.span.label, bar.duration) for bar in bars] == [
        ("Accepted", "0 ms"),
        ("Waiting", "1.0 s"),
        ("Attempt 1", "2.0 s"),
        ("Effect charge", "6.0 s"),
        ("Waiting", "2.0 s"),
        ("Attempt 2", "4.0 s"),
        ("Settled: succeeded", "0 ms"),
    ]
    assert [bar.span.tone for bar in bars if not bar.is_instant] == [
        *(Tone.WAITING, Tone.BAD, Tone.GOOD, Tone.WAITING, Tone.GOOD)
    ]
    assert build_timeline(detail).duration == "9.0 s"


def test_an_open_span_reaches_to_now():
    running = build_timeline(
        job_detail(
            state=State.RUNNING,
            attempts=[attempt(1, 1, None, None)],
            steps=[effect(2, None, "started")],
            events=[(0, "submit"), (1, "claim")],
        )
    )
    assert {bar.span.label for bar in running.bars if bar.span.end is None} == {"Attempt 1", "Effect charge"}
    for bar in running.bars:
        if bar.span.end is None:
            assert bar.left + bar.width == pytest.approx(100, abs=0.02)


@pytest.mark.parametrize(("held", "text"), [(False, "due"), (True, "due; held: paused, blocked or unknown")])
def test_a_waiting_job_shows_whether_it_is_held(held, text):
    detail = job_detail()
    detail.job.held = held
    [_, waiting] = build_timeline(detail).bars
    assert (waiting.span.label, waiting.span.text) == ("Waiting", text)
    assert waiting.duration == "1 min"


def test_an_operators_action_is_marked_with_the_name():
    detail = job_detail(
        events=[(0, "submit"), (1, "claim"), (2, "fail"), (5, "redrive")], attempts=[attempt(1, 1, 2, "fail")]
    )
    detail.events[-1].data = {"by": "user ada"}
    assert [(bar.span.label, bar.span.text) for bar in build_timeline(detail).bars][-2:] == [
        ("Waiting", "due"),
        ("Redriven", "by user ada"),
    ]


def test_milliseconds_are_visible_beside_a_weekend():
    weekend = 2 * 86_400
    bars = build_timeline(
        job_detail(
            state=State.FAILED,
            finished=weekend + 0.2,
            attempts=[attempt(1, 0.1, 0.15, "fail"), attempt(2, weekend, weekend + 0.2, "fail")],
            events=[(0, "submit"), (0.1, "claim"), (0.15, "fail"), (10, "redrive"), (weekend, "claim")],
        )
    ).bars
    assert all(bar.width > 3 for bar in bars if bar.span.label.startswith("Attempt"))


@given(times=st.lists(st.floats(0, 1e8), min_size=2, max_size=12))
def test_every_bar_is_within_the_drawing_in_the_order_of_time(times):
    times = sorted(times)
    attempts = [attempt(number, begin, end, "retry") for number, (begin, end) in enumerate(pairwise(times), start=1)]
    bars = build_timeline(job_detail(attempts=attempts, now=times[-1])).bars
    assert all(0 <= bar.left < 100 and 0 < bar.width <= 100.6 and bar.left + bar.width < 101 for bar in bars)
    assert [bar.left for bar in bars] == sorted(bar.left for bar in bars)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0124, "12 ms"),
        (-1, "0 ms"),
        (1.44, "1.4 s"),
        (125, "2 min 5 s"),
        (120, "2 min"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_are_readable(seconds, expected):
    assert format_duration(timedelta(seconds=seconds)) == expected
