"""Fault points: off by default, fire at the nth reach if armed, and refused by the deployment check."""

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


def test_nothing_happens_at_any_place_unless_armed():
    for point in POINTS:
        reach(point)


def test_the_armed_place_fires_once_at_the_nth_reach():
    arm("after_claim:2:raise")
    reach("after_claim")
    reach("before_claim")
    with pytest.raises(FaultPointReached):
        reach("after_claim")
    reach("after_claim")


def test_forked_processes_count_together():
    arm("after_claim:2:raise")
    child = os.fork()
    if child == 0:
        reach("after_claim")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(FaultPointReached):
        reach("after_claim")


@pytest.mark.parametrize(
    "setting",
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
def test_an_unknown_setting_is_refused(setting):
    with pytest.raises(ImproperlyConfigured, match="FAULT_POINT"):
        arm(setting)


def test_a_deployment_with_an_armed_fault_point_is_refused(settings):
    assert check_fault_point() == []
    settings.FAULT_POINT = "after_claim:1:kill"
    assert [error.id for error in check_fault_point()] == ["semel.E007"]
