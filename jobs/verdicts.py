"""The rule for a verdict on a step whose outcome is unknown, for the service and for every form in front of it."""

from __future__ import annotations

from jobs.models import JobStep
from jobs.states import State

VERDICTS = (JobStep.State.DONE, JobStep.State.NOT_DONE)
TARGETS = (State.SUCCEEDED, State.FAILED, State.QUEUED)


def verdict_errors(*, verdict: object, then: object, result: object = None) -> dict[str, str]:
    """Return what is wrong with the verdict, by argument; empty where `resolve_job` accepts it.

    then: the state in which the verdict leaves the job. result: that of the effect, any JSON value.
    """
    errors = {}
    if verdict not in VERDICTS:
        errors["verdict"] = "A verdict is done or not_done."
    if then not in TARGETS:
        errors["then"] = "A resolved job is succeeded, failed or queued."
    if verdict == JobStep.State.NOT_DONE and then == State.SUCCEEDED:
        errors["then"] = "A job whose effect was not done cannot succeed."
    if verdict == JobStep.State.NOT_DONE and result is not None:
        errors["result"] = "An effect that was not done has no result."
    return errors
