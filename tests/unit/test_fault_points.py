"""Fault points: nothing by default, one place on its turn if told, and refused where a deployment is checked."""

from __future__ import annotations

import os

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.checks import check_fault_point
from foundation.fault_points import POINTS, FaultPointReached, arm, reach


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    arm("")


def test_nothing_happens_anywhere_unless_told():
    for point in POINTS:
        reach(point)


def test_the_place_that_was_told_is_met_on_its_turn_and_once():
    arm("after_claim:2:raise")
    reach("after_claim")
    reach("before_claim")
    with pytest.raises(FaultPointReached):
        reach("after_claim")
    reach("after_claim")


def test_turns_are_counted_together_with_forked_processes():
    arm("after_claim:2:raise")
    child = os.fork()
    if child == 0:
        reach("after_claim")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(FaultPointReached):
        reach("after_claim")


@pytest.mark.parametrize(
    "told",
    [
        "after_claim",
        "after_claim:1",
        "after_claim:0:kill",
        "after_claim:1001:kill",
        "after_claim:x:kill",
        "after_claim:1:explode",
        "nowhere:1:kill",
        "after_claim:1:kill:",
    ],
)
def test_what_is_not_known_is_refused(told):
    with pytest.raises(ImproperlyConfigured, match="FAULT_POINT"):
        arm(told)


def test_a_deployment_that_is_told_to_die_is_refused(settings):
    assert check_fault_point() == []
    settings.FAULT_POINT = "after_claim:1:kill"
    assert [error.id for error in check_fault_point()] == ["semel.E007"]
