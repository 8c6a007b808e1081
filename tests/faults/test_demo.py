"""The demo as a real process: its counts, its report of a failure, and that a signal at any time leaves nothing."""

from __future__ import annotations

import re
import signal

import pytest

from tests.support.launcher import STOP_SECONDS, eventually, exit_code_of, is_alive

# Requests, jobs, charges and replays of each scenario.
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
# Runs only the scenarios of these names.
RUN_ONLY = """
import sys
from devstack import demo, scenarios
demo.SCENARIOS = tuple(scenario for scenario in scenarios.SCENARIOS if scenario.__name__ in {names!r})
"""
# One scenario does not kill its worker, which continues by itself; in the other one, an extra charge is made.
SABOTAGE = """
import json
from devstack.demo_client import DemoClient
from devstack.supervisor import Supervisor
end, final_state = Supervisor.end, DemoClient.final_state

def end_all_but_workers(supervisor, name, number):
    return supervisor.running[name].command if name == "worker" else end(supervisor, name, number)

def final_state_and_extra_charge(client, answer):
    charge = {"amount": 1, "currency": "usd", "source": "tok_visa"}
    assert client.provider.post("/v1/charges", json.dumps(charge).encode(), "extra-charge").status == 200
    return final_state(client, answer)

Supervisor.end, DemoClient.final_state = end_all_but_workers, final_state_and_extra_charge
"""
# The provider starts long after all others.
LATE_PROVIDER = """
from dataclasses import replace
from devstack import services
in_time = services.provider

def late(*args, **options):
    command = in_time(*args, **options)
    return replace(command, argv=["sh", "-c", 'sleep 15; exec "$@"', "sh", *command.argv])

services.provider = late
"""


def run_only(*names):
    return RUN_ONLY.format(names=names)


def rows(table):
    """Return the numbers and the verdict of each row, by its scenario."""
    found = re.findall(r"^(\S.*?) +(\d+) +(\d+) +(\d+) +(\d+)  (.*)$", table, re.MULTILINE)
    return {scenario: (tuple(map(int, counts)), verdict) for scenario, *counts, verdict in found}


def test_each_scenario_counts_as_expected_whatever_the_user_has_set(launch):
    intervals = {"LEASE_SECONDS": "3600", "HEARTBEAT_SECONDS": "1200", "SWEEP_SECONDS": "600"}
    launcher = launch("demo", API_WORKERS="2", **intervals)
    launcher.wait_for_output("Ready")
    scratch = launcher.scratch()
    assert scratch.exists()
    output = launcher.remaining_output()
    assert launcher.popen.returncode == 0, output
    assert rows(output) == {scenario: (counts, "yes") for scenario, counts in ROWS.items()}
    # The provider's event may arrive before the lease expires, or after.
    assert re.search(r"s after the kill: submit, claim, (provider-event, )?expire, claim, ", output)
    assert "The lease is 8 s here instead of 45 s" in output
    assert "Every number is as expected." in output
    launcher.leaves_nothing()
    assert not scratch.exists()


def test_a_scenario_with_another_result_fails_the_demo_and_is_named(launch):
    launcher = launch(code=run_only("killed_worker", "stopped_broker") + SABOTAGE + "sys.exit(demo.demo())")
    output = launcher.remaining_output()
    assert launcher.popen.returncode == 1, output
    assert "Not every number is as expected." in output
    table = rows(output)
    counts, verdict = table["(d) worker killed in mid-charge"]
    assert counts == (1, 1, 1, 0)
    assert re.fullmatch(r"attempt \d after submit, claim, (provider-event, )?retry, .*", verdict)
    assert table["(e) broker stopped"] == ((2, 1, 2, 1), "charges 1, not 2")
    assert table["in all"] == ((3, 2, 3, 1), "charges 2, not 3")
    launcher.leaves_nothing()


def test_the_scenarios_start_only_when_the_provider_answers(launch):
    launcher = launch(code=run_only() + LATE_PROVIDER + "sys.exit(demo.demo())")
    output = launcher.remaining_output()
    assert launcher.popen.returncode == 0, output
    assert rows(output) == {"in all": ((0, 0, 0, 0), "yes")}
    launcher.leaves_nothing()


@pytest.mark.parametrize(
    ("scenario", "moment", "number"),
    [
        ("killed_worker", "is killed", signal.SIGKILL),
        ("killed_worker", "is started", signal.SIGINT),
        ("stopped_broker", "has ended", signal.SIGTERM),
        ("stopped_broker", "no other process is restarted", signal.SIGKILL),
    ],
)
def test_a_signal_during_a_scenario_leaves_nothing(launch, scenario, moment, number):
    launcher = launch(code=run_only(scenario) + "sys.exit(demo.demo())")
    launcher.wait_for_output("Ready")
    scratch, processes = launcher.scratch(), launcher.descendants()
    launcher.wait_for_output(moment)
    processes += launcher.descendants()
    launcher.popen.send_signal(number)
    assert launcher.leaves_nothing() == exit_code_of(number)
    eventually(lambda: not any(is_alive(one) for one in processes), STOP_SECONDS, f"{processes} have ended")
    assert not scratch.exists()
