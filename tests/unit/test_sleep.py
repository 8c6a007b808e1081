"""demo.sleep checks often enough to be canceled, and reports its progress."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from jobs.operations import JobCanceled
from operations.sleep import Sleep


class SleepHandle:
    """A job's handle that is canceled at a given check."""

    def __init__(self, *, canceled_at_check=None):
        self.checks = 0
        self.progresses = []
        self._canceled_at_check = canceled_at_check

    def check(self):
        self.checks += 1
        if self.checks == self._canceled_at_check:
            raise JobCanceled

    def progress(self, done, total, message=""):
        assert 0 <= done <= total
        self.progresses.append((done, total))


@pytest.mark.parametrize("seconds", [0, Decimal("0.3")])
def test_a_sleep_lasts_as_long_as_requested_and_ends_with_full_progress(seconds):
    job = SleepHandle()
    start = time.monotonic()
    assert Sleep().perform({"seconds": seconds}, job) == {"slept": seconds}
    assert time.monotonic() - start >= seconds
    done, total = job.progresses[-1]
    assert done == total


def test_an_hour_of_sleep_ends_soon_after_a_cancel():
    job = SleepHandle(canceled_at_check=3)
    start = time.monotonic()
    with pytest.raises(JobCanceled):
        Sleep().perform({"seconds": 3600}, job)
    assert time.monotonic() - start < 5
    assert job.progresses[0] == (0, 3600)


def test_an_attempt_may_last_as_long_as_the_longest_sleep():
    assert Sleep.timeout_seconds > 3600
