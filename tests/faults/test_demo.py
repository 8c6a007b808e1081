"""The demo, really played: each scene counts what it promises, tells when it does not, and can be interrupted anywhere."""

from __future__ import annotations

import re
import signal

import pytest

from tests.support.launcher import STOP_SECONDS, eventually, exit_code_of, is_alive

# Requests, jobs, charges and replays of each scene.
ROWS = {
    "(a) lost answer, retried": (2, 1, 1, 1),
    "(b) 50 at once, one key": (50, 1, 1, 49),
    "(c) key reused, other body": (2, 1, 1, 0),
    "(d) worker killed in mid-charge": (1, 1, 1, 0),
    "(e) broker stopped": (2, 1, 1, 1),
    "(f) event delivered 3 times": (1, 1, 1, 0),
    "(g) database made and dropped": (3, 2, 0, 1),
    "(h) report, rows counted": (2, 1, 0, 1),
    "in all": (63, 9, 6, 53),
}
# The scenes of these names alone.
PLAY = """
import sys
from devstack import demo, scenes
demo.SCENES = tuple(scene for scene in scenes.SCENES if scene.__name__ in {names!r})
"""
# A worker that nobody kills goes on by itself; and in the other scene money is taken once more, behind everybody's back.
SABOTAGE = """
import json
from devstack.demo_client import Stage
from devstack.supervisor import Supervisor
end, final_state = Supervisor.end, Stage.final_state

def end_all_but_workers(supervisor, name, number):
    return supervisor.running[name].command if name == "worker" else end(supervisor, name, number)

def final_state_and_one_charge_more(stage, answer):
    charge = {"amount": 1, "currency": "usd", "source": "tok_visa"}
    assert stage.provider.post("/v1/charges", json.dumps(charge).encode(), "behind-our-back").status == 200
    return final_state(stage, answer)

Supervisor.end, Stage.final_state = end_all_but_workers, final_state_and_one_charge_more
"""
# The provider is there long after all others.
LATE_PROVIDER = """
from dataclasses import replace
from devstack import services
in_time = services.provider

def late(*args, **options):
    command = in_time(*args, **options)
    return replace(command, argv=["sh", "-c", 'sleep 15; exec "$@"', "sh", *command.argv])

services.provider = late
"""


def playing(*names):
    return PLAY.format(names=names)


def rows(table):
    """The figures of each line by its scene, and its verdict."""
    found = re.findall(r"^(\S.*?) +(\d+) +(\d+) +(\d+) +(\d+)  (.*)$", table, re.MULTILINE)
    return {scene: (tuple(map(int, figures)), verdict) for scene, *figures, verdict in found}


def test_each_scene_counts_what_it_promises_whatever_pace_the_user_has_set(launch):
    launcher = launch("demo", LEASE_SECONDS="3600", HEARTBEAT_SECONDS="1200", SWEEP_SECONDS="600")
    launcher.has_said("Ready")
    scratch = launcher.scratch()
    assert scratch.exists()
    said = launcher.last_words()
    assert launcher.popen.returncode == 0, said
    assert rows(said) == {scene: (figures, "yes") for scene, figures in ROWS.items()}
    # The provider's event may come before the lease is over, or after.
    assert re.search(r"s after the kill: submit, claim, (provider-event, )?expire, claim, ", said)
    assert "The lease is 8 s here instead of 45 s" in said
    assert "Each figure is what it should be." in said
    launcher.leaves_nothing()
    assert not scratch.exists()


def test_a_scene_that_goes_otherwise_fails_the_demo_and_is_named(launch):
    launcher = launch(code=playing("killed_worker", "stopped_broker") + SABOTAGE + "sys.exit(demo.demo())")
    said = launcher.last_words()
    assert launcher.popen.returncode == 1, said
    assert "Not every figure is what it should be." in said
    table = rows(said)
    figures, verdict = table["(d) worker killed in mid-charge"]
    assert figures == (1, 1, 1, 0)
    assert re.fullmatch(r"attempt \d after submit, claim, (provider-event, )?retry, .*", verdict)
    assert table["(e) broker stopped"] == ((2, 1, 2, 1), "charges 1, not 2")
    assert table["in all"] == ((3, 2, 3, 1), "charges 2, not 3")
    launcher.leaves_nothing()


def test_the_scenes_begin_once_the_provider_answers_too(launch):
    launcher = launch(code=playing() + LATE_PROVIDER + "sys.exit(demo.demo())")
    said = launcher.last_words()
    assert launcher.popen.returncode == 0, said
    assert rows(said) == {"in all": ((0, 0, 0, 0), "yes")}
    launcher.leaves_nothing()


@pytest.mark.parametrize(
    ("scene", "moment", "number"),
    [
        ("killed_worker", "is killed", signal.SIGKILL),
        ("killed_worker", "is started", signal.SIGINT),
        ("stopped_broker", "has ended", signal.SIGTERM),
        ("stopped_broker", "is there in its place", signal.SIGKILL),
    ],
)
def test_a_signal_in_the_middle_of_a_scene_leaves_nothing(launch, scene, moment, number):
    launcher = launch(code=playing(scene) + "sys.exit(demo.demo())")
    launcher.has_said("Ready")
    scratch, family = launcher.scratch(), launcher.family()
    launcher.has_said(moment)
    family += launcher.family()
    launcher.popen.send_signal(number)
    assert launcher.leaves_nothing() == exit_code_of(number)
    eventually(lambda: not any(is_alive(one) for one in family), STOP_SECONDS, f"{family} are gone")
    assert not scratch.exists()
