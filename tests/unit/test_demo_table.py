"""The demo's settings and its table, without running the demo."""

from __future__ import annotations

import pytest

from config.checks import check_times
from devstack.demo import table
from devstack.demo_client import Counts, Result
from devstack.demo_settings import DEFAULTS, DEMO_SETTINGS


def test_the_demos_settings_pass_the_checks(settings):
    for name, seconds in DEMO_SETTINGS.items():
        assert isinstance(getattr(settings, name), float), name
        setattr(settings, name, float(seconds))
    assert list(check_times()) == []


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_that_the_demo_prints_are_true(settings, name):
    assert getattr(settings, name) == float(DEFAULTS[name])


def test_a_wrong_number_and_a_problem_are_shown_in_their_row():
    right = Result("(x) right", Counts(2, 1, 1, 1), Counts(2, 1, 1, 1))
    wrong = Result("(y) wrong", Counts(2, 1, 1, 1), Counts(2, 1, 2, 0), ["the job ended failed"])
    assert (right.is_right, wrong.is_right) == (True, False)
    assert Result("(z)", right.expected, right.counted, ["it rained"]).is_right is False
    _, first, second = table([right, wrong]).splitlines()
    assert first.endswith("  yes")
    assert second.endswith("  charges 1, not 2; replays 1, not 0; the job ended failed")
