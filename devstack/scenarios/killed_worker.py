"""Scenario: a worker is killed after the provider took the money and before Semel recorded it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from devstack.console import LauncherError
from devstack.demo_client import JOB_SECONDS, Counts, Result, problems
from devstack.demo_settings import compared
from devstack.sandbox_provider.charges import SILENT

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient
    from devstack.http_client import Answer

# Well within the provider's time-out, after which the worker would record that it got no answer.
POLL_SECONDS = 0.02
RUNNING = ("running", ["started"])
HISTORY = ["submit", "claim", "expire", "claim", "succeed"]


def killed_worker(client: DemoClient) -> Result:
    """A worker that dies between a charge and its record costs an attempt and a lease, but no second charge."""
    client.print("(d) A worker killed by SIGKILL right after the provider took the money")
    client.print_more(f"    The lease is {compared('LEASE_SECONDS')}, so that you need not wait,")
    client.print_more(f"    and the sweeper runs every {compared('SWEEP_SECONDS')}.")
    key, before = client.new_key("killed"), client.charges()
    # With this source the provider stores the charge and sends no answer: until the time-out only the provider knows of it.
    answer = client.post(client.charge_body(5900, SILENT), key)
    charge = _stored_charge(client, answer)
    pid = client.supervisor.running["worker"].identity.pid
    command = client.supervisor.end("worker", signal.SIGKILL)
    killed_at = time.monotonic()
    left = _state_of(client.job(answer))
    client.print(f"    {charge['id']} is stored at the provider, no answer is sent; worker {pid} is killed")
    client.print(f"    the job is {left[0]}, its effect {', '.join(left[1])}: Semel does not know of the charge")
    restarted = client.supervisor.start(command)
    client.print(f"    worker {restarted.identity.pid} is started")
    job = client.ended_job(answer)
    took = time.monotonic() - killed_at
    history, result = client.history(answer), job["result"] or {}
    counts = client.count(key, requests=1, replays=int(answer.is_replay), charges_before=before)
    client.print(f"    the job {job['state']} {took:.1f} s after the kill: {', '.join(history)}")
    client.print(
        f"    attempt {job['attempt']}, result {result.get('charge_id')}; charges at the provider: {counts.charges}"
    )
    # The provider sends its event at some moment in between.
    transitions = [name for name in history if name != "provider-event"]
    charge_ids = [one["id"] for one in client.charges_of(job)]
    found = problems(
        (left == RUNNING, f"after the kill the job was {left[0]}, its effects {left[1]}"),
        (job["state"] == "succeeded", f"the job ended {job['state']}"),
        ((job["attempt"], transitions) == (2, HISTORY), f"attempt {job['attempt']} after {', '.join(history)}"),
        (charge_ids == [result.get("charge_id")], "the result is not the charge that the provider stored"),
    )
    return Result("(d) worker killed in mid-charge", Counts(1, 1, 1, 0), counts, found)


def _stored_charge(client: DemoClient, answer: Answer) -> dict[str, Any]:
    """Wait until the provider has stored the job's charge."""
    job, end = client.job(answer), time.monotonic() + JOB_SECONDS
    while not (charges := client.charges_of(job)):
        if time.monotonic() > end:
            raise LauncherError(f"The demo found no charge of job {job['id']} within {JOB_SECONDS:.0f} s.")
        time.sleep(POLL_SECONDS)
    return charges[0]


def _state_of(job: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the states of the job and of its effects."""
    return job["state"], [effect["state"] for effect in job["effects"]]
