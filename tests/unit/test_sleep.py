"""demo.sleep looks up often enough to be canceled, and says how far it is."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from jobs.operations import JobCanceled
from operations.sleep import Sleep


class Sleeper:
    """A job's handle that is canceled at a given look."""

    def __init__(self, *, canceled_at_look=None):
        self.looks = 0
        self.told = []
        self._canceled_at_look = canceled_at_look

    def check(self):
        self.looks += 1
        if self.looks == self._canceled_at_look:
            raise JobCanceled

    def progress(self, done, total, message=""):
        assert 0 <= done <= total
        self.told.append((done, total))


@pytest.mark.parametrize("seconds", [0, Decimal("0.3")])
def test_it_lasts_as_long_as_asked_and_ends_with_full_progress(seconds):
    job = Sleeper()
    start = time.monotonic()
    assert Sleep().perform({"seconds": seconds}, job) == {"slept": seconds}
    assert time.monotonic() - start >= seconds
    done, total = job.told[-1]
    assert done == total


def test_an_hour_s_sleep_ends_soon_when_canceled():
    job = Sleeper(canceled_at_look=3)
    start = time.monotonic()
    with pytest.raises(JobCanceled):
        Sleep().perform({"seconds": 3600}, job)
    assert time.monotonic() - start < 5
    assert job.told[0] == (0, 3600)


def test_an_attempt_may_last_as_long_as_the_longest_sleep():
    assert Sleep.timeout_seconds > 3600
