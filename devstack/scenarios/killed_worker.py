"""A worker dies when the money is taken and nothing of ours says so."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from devstack.demo_client import JOB_SECONDS, Figures, Row
from devstack.demo_settings import instead
from devstack.errors import LauncherError
from devstack.sandbox_provider.charges import SILENT

if TYPE_CHECKING:
    from devstack.demo_client import Stage
    from devstack.http_client import Answer

# Well within the provider's time-out, after which the worker would know that it does not know.
LOOK_SECONDS = 0.02
IN_DOUBT = ("running", ["started"])
HISTORY = ["submit", "claim", "expire", "claim", "succeed"]


def killed_worker(stage: Stage) -> Row:
    """A worker that dies between the charge and its record costs an attempt and a lease, and no second charge."""
    stage.say("(d) A worker killed by SIGKILL right after the provider took the money")
    stage.more(f"    The lease is {instead('LEASE_SECONDS')}, so that you need not wait,")
    stage.more(f"    and the sweeper looks every {instead('SWEEP_SECONDS')}.")
    key, before = stage.new_key("killed"), stage.charges()
    # The money is in the book before this provider falls silent: until the time-out only the book knows of it.
    answer = stage.post(stage.charge(5900, SILENT), key)
    charge = _charge_in_the_book(stage, answer)
    pid = stage.supervisor.running["worker"].identity.pid
    command = stage.supervisor.end("worker", signal.SIGKILL)
    killed_at = time.monotonic()
    left = _standing(stage.job(answer))
    stage.say(f"    {charge['id']} is in the provider's book, its answer is not sent; worker {pid} is killed")
    stage.say(
        f"    the job is {left[0]}, its effect {', '.join(left[1])}: no attempt of ours has heard of the charge"
    )
    other = stage.supervisor.start(command)
    stage.say(f"    worker {other.identity.pid} is started")
    job = stage.ended_job(answer)
    took = time.monotonic() - killed_at
    history, result = stage.history(answer), job["result"] or {}
    figures = stage.count(key, requests=1, replays=int(answer.is_replay), charges_before=before)
    stage.say(f"    the job {job['state']} {took:.1f} s after the kill: {', '.join(history)}")
    stage.say(
        f"    attempt {job['attempt']}, result {result.get('charge_id')}; charges at the provider: {figures.charges}"
    )
    complaints = [] if left == IN_DOUBT else [f"after the kill the job was {left[0]}, its effects {left[1]}"]
    if job["state"] != "succeeded":
        complaints.append(f"the job ended {job['state']}")
    # The provider tells of its charge afterwards, at some moment in between.
    if (job["attempt"], [name for name in history if name != "provider-event"]) != (2, HISTORY):
        complaints.append(f"attempt {job['attempt']} after {', '.join(history)}")
    if [one["id"] for one in stage.book(job)] != [result.get("charge_id")]:
        complaints.append("the result is not the charge in the book")
    return Row("(d) worker killed in mid-charge", Figures(1, 1, 1, 0), figures, complaints)


def _charge_in_the_book(stage: Stage, answer: Answer) -> dict[str, Any]:
    """The charge, a moment after it was made; LauncherError if none is."""
    job, end = stage.job(answer), time.monotonic() + JOB_SECONDS
    while not (charges := stage.book(job)):
        if time.monotonic() > end:
            raise LauncherError(
                f"The demo waited {JOB_SECONDS:.0f} s in vain for a charge of job {job['id']}."
            )
        time.sleep(LOOK_SECONDS)
    return charges[0]


def _standing(job: dict[str, Any]) -> tuple[str, list[str]]:
    """What the job's own record says of it and of its effects."""
    return job["state"], [effect["state"] for effect in job["effects"]]
