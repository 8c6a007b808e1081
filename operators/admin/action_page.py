"""The page that confirms an action on one job and runs its service, and the buttons that each state allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from jobs.models import Job
from jobs.states import TERMINAL, Event, State, rules_for
from operators import job_actions
from operators.admin.page_base import NoteForm, ReasonForm, actor_of, form_data, render_page, run_service
from operators.job_detail import get_record

if TYPE_CHECKING:
    from idempotency.models import IdempotencyRecord


@dataclass(frozen=True, kw_only=True)
class Action:
    """A button on a job's page. `consequences` is shown above the confirmation, `done` after it."""

    name: str
    label: str
    states: frozenset[State]
    consequences: str = ""
    done: str = ""
    is_dangerous: bool = False
    needs_payload: bool = False
    service: Callable[..., object] | None = None  # None: the action has a form of its own


def _sources(event: Event) -> frozenset[State]:
    return frozenset().union(*(rule.sources for rule in rules_for(event)))


ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="redrive",
            label="Redrive",
            states=_sources(Event.REDRIVE),
            consequences="The job is queued again with all its attempts. Finished steps are kept; an effect that was "
            "refused runs again under a new downstream key.",
            done="The job is queued again.",
            needs_payload=True,
            service=job_actions.redrive_job,
        ),
        Action(name="resolve", label="Resolve", states=_sources(Event.RESOLVE)),
        Action(
            name="cancel",
            label="Cancel",
            states=_sources(Event.CANCEL) | {State.RUNNING},
            consequences="A queued job is canceled. A running job stops at its next checkpoint, but only if it has "
            "completed no effects or all of them can be compensated.",
            done="Cancellation requested. A running job stops at its next checkpoint unless it has completed effects "
            "that cannot be compensated.",
            is_dangerous=True,
            service=job_actions.cancel_job,
        ),
        Action(
            name="erase",
            label="Erase payload",
            states=TERMINAL,
            consequences="The params, result, errors and step results of the job and the stored response of its key are "
            "deleted and cannot be restored. The job can never run again. Ids, keys and states are kept.",
            done="The payload is erased.",
            is_dangerous=True,
            needs_payload=True,
            service=job_actions.erase_payload,
        ),
    )
}

RELEASE = Action(
    name="release-key",
    label="Release key",
    states=TERMINAL,
    consequences="The idempotency key is released before it expires: the next request with this key is accepted as new and "
    "runs the work again. A client that still retries the old request starts a second job.",
    is_dangerous=True,
)


class ReleaseForm(ReasonForm):
    """A reason, and the record's owner counter when the operator saw the record."""

    owner = forms.IntegerField(widget=forms.HiddenInput)


def actions_for(job: Job, record: IdempotencyRecord | None) -> list[Action]:
    """Return the actions that the job's state allows. The services check the state again."""
    state = State(job.state)
    allowed = [
        action for action in ACTIONS.values() if state in action.states and not (action.needs_payload and job.erased_at)
    ]
    if record is not None and record.resource == job.resource and state in RELEASE.states:
        allowed.append(RELEASE)
    return allowed


def act_on_job(request: HttpRequest, job_id: UUID, name: str) -> HttpResponse:
    """Show the confirmation for GET. For POST run the action and show its outcome on the job's page."""
    action = ACTIONS.get(name)
    if action is None or action.service is None:
        raise Http404
    job = get_job_or_404(job_id)
    form = NoteForm(form_data(request))
    if form.is_valid():
        note = form.cleaned_data["note"]
        service = partial(action.service, job_id=job_id, actor=actor_of(request), note=note)
        run_service(request, service, success=action.done)
        return redirect("admin:jobs_job_change", job_id=job_id)
    return render_page(request, "confirm.html", title=action.label, action=action, job=job, form=form)


def release_key_of_job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Confirm and release the job's idempotency key, if the record's `owner` is still the one that the form showed."""
    job = get_job_or_404(job_id)
    record = get_record(job)
    if record is None:
        raise Http404("The key is already free.")
    form = ReleaseForm(form_data(request), initial={"owner": record.owner})
    if form.is_valid():
        service = partial(job_actions.release_key, record_id=record.id, actor=actor_of(request), **form.cleaned_data)
        success = f"The key {record.key} is free. The next request with it is new."
        run_service(request, service, success=success)
        return redirect("admin:jobs_job_change", job_id=job_id)
    return render_page(request, "confirm.html", title=RELEASE.label, action=RELEASE, job=job, form=form)


def get_job_or_404(job_id: UUID) -> Job:
    """Return the job with its tenant. Raise Http404 if there is none."""
    job = Job.objects.filter(pk=job_id).prefetch_related("tenant").first()
    if job is None:
        raise Http404(f"Job {job_id} does not exist.")
    return job
