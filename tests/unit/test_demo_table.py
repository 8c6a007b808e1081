"""The demo's pace and its table, without the demo."""

from __future__ import annotations

import pytest

from config.checks import check_times
from devstack.demo import table
from devstack.demo_client import Figures, Row
from devstack.demo_settings import DEFAULTS, TEMPO


def test_the_demos_pace_stands_in_every_relation(settings):
    for name, seconds in TEMPO.items():
        assert isinstance(getattr(settings, name), float), name
        setattr(settings, name, float(seconds))
    assert list(check_times()) == []


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_the_demo_says_of_a_deployment_is_true(settings, name):
    assert getattr(settings, name) == float(DEFAULTS[name])


def test_a_wrong_figure_and_a_complaint_are_told_in_their_line():
    right = Row("(x) right", Figures(2, 1, 1, 1), Figures(2, 1, 1, 1))
    wrong = Row("(y) wrong", Figures(2, 1, 1, 1), Figures(2, 1, 2, 0), ["the job ended failed"])
    assert (right.is_right, wrong.is_right) == (True, False)
    assert Row("(z)", right.expected, right.counted, ["it rained"]).is_right is False
    _, first, second = table([right, wrong]).splitlines()
    assert first.endswith("  yes")
    assert second.endswith("  charges 1, not 2; replays 1, not 0; the job ended failed")
