"""Acting on many jobs: on rows that were selected, at once; on all that a filter finds, by the maintenance worker.

First a preview with the count, then a confirmation with a reason. Each job is acted on by the service that its own page calls, so
that one whose state has changed meanwhile is refused, and told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect
from django.utils import timezone

from jobs.models import BulkAction, JobStep
from jobs.selectors import jobs_by_id
from jobs.states import State
from jobs.verdicts import verdict_errors
from operators import bulk_actions, job_actions
from operators.admin.job_act import REFUSALS, NotedForm
from operators.admin.job_filters import JobFilterForm
from operators.admin.job_resolve import VERDICTS, WAYS
from operators.admin.pages import ROWS, actor_of, page, posted, requires
from operators.inspection import record_of, steps_in_doubt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest, HttpResponse, QueryDict

    from jobs.models import Job
    from jobs.selectors import JobFilter

ACTS = {"cancel": "Cancel", "redrive": "Redrive", "resolve": "Resolve", "release": "Release keys"}
# A result would be one for all: whoever resolves many says only whether it was done.
_WAYS = [(way, label.partition(":")[0]) for way, label in WAYS]


class BulkForm(NotedForm):
    """Why, once for all of them; `as_of` keeps out what arrives after the preview."""

    as_of = forms.DateTimeField(widget=forms.HiddenInput, required=False)


class BulkResolveForm(BulkForm):
    """What became of the one effect of each that is in doubt, and where each goes."""

    verdict = forms.TypedChoiceField(
        choices=VERDICTS, coerce=JobStep.State, widget=forms.RadioSelect, label="What became of each effect"
    )
    then = forms.TypedChoiceField(
        choices=_WAYS, coerce=State, widget=forms.RadioSelect, label="Each job is then"
    )
    field_order = ["verdict", "then", "note"]

    def clean(self) -> dict[str, Any]:
        """Apply the rule for verdicts."""
        if not self.errors:
            data = self.cleaned_data
            for field, error in verdict_errors(verdict=data["verdict"], then=data["then"]).items():
                self.add_error(field, error)
        return self.cleaned_data


@dataclass(frozen=True)
class _Done:
    """What came of one job."""

    job: Job
    refused: str | None


@requires("jobs.operate_job")
def act_on_many(request: HttpRequest) -> HttpResponse:
    """GET previews what the address names: an action, and selected rows or a filter. POST does it."""
    asked = request.GET
    action = asked.get("action", "")
    if action not in ACTS:
        raise Http404("There is no such action.")
    if asked.get("scope") == "selected":
        return _act_on_selected(request, action, _ids(asked))
    return _act_on_filter(request, action)


def _act_on_selected(request: HttpRequest, action: str, ids: list[UUID]) -> HttpResponse:
    jobs = jobs_by_id(ids)
    form = _form(action)(posted(request))
    if not form.is_valid() or not jobs:
        return _preview(request, action, form=form, count=str(len(jobs)), jobs=jobs)
    said = {**form.cleaned_data, "actor": actor_of(request)}
    del said["as_of"]
    done = [_try(_PERFORM[action], job, said) for job in jobs]
    changed = sum(one.refused is None for one in done)
    return page(
        request, "bulk_results.html", title=f"{ACTS[action]}: {changed} of {len(done)} done", done=done
    )


def _try(perform: Callable[..., None], job: Job, said: dict[str, Any]) -> _Done:
    try:
        perform(job, **said)
    except REFUSALS as error:
        return _Done(job, str(error))
    return _Done(job, None)


def _cancel(job: Job, **said: Any) -> None:  # noqa: ANN401 - actor and note
    job_actions.cancel_job(job_id=job.id, **said)


def _redrive(job: Job, **said: Any) -> None:  # noqa: ANN401
    job_actions.redrive_job(job_id=job.id, **said)


def _resolve(job: Job, **said: Any) -> None:  # noqa: ANN401
    steps = steps_in_doubt(job.id)
    if len(steps) > 1:
        raise ValueError("More than one effect is in doubt: say it of each, on the job's page.")
    job_actions.resolve_job(job_id=job.id, step=steps[0].name if steps else "", **said)


def _release(job: Job, **said: Any) -> None:  # noqa: ANN401
    record = record_of(job)
    if record is None:
        raise ValueError("Its key is free already.")
    job_actions.release_key(record_id=record.id, owner=record.owner, **said)


_PERFORM: dict[str, Callable[..., None]] = {
    "cancel": _cancel,
    "redrive": _redrive,
    "resolve": _resolve,
    "release": _release,
}


def _act_on_filter(request: HttpRequest, action: str) -> HttpResponse:
    form = _form(action)(posted(request), initial={"as_of": timezone.now().isoformat()})
    try:
        job_filter = _job_filter(request.GET, form)
        count = str(bulk_actions.preview(job_filter))
        if form.is_valid():
            said = {name: value for name, value in form.cleaned_data.items() if name != "as_of"}
            started = bulk_actions.start_bulk(
                action=BulkAction.Action(action), job_filter=job_filter, actor=actor_of(request), **said
            )
            messages.success(request, "Begun. The maintenance worker does it, some at a time.")
            return redirect("admin:jobs_bulkaction_change", bulk_id=started.id)
    except REFUSALS as error:
        messages.error(request, f"Not begun. {error}")
        return redirect(f"../?{_without_action(request.GET)}")
    return _preview(request, action, form=form, count=count, jobs=None)


def _preview(request: HttpRequest, action: str, **context: Any) -> HttpResponse:  # noqa: ANN401
    asked = request.GET
    wanted = [
        (name.replace("_", " "), value)
        for name, value in asked.items()
        if value and name in JobFilterForm.base_fields
    ]
    return page(
        request,
        "bulk_preview.html",
        title=f"{ACTS[action]} many",
        label=ACTS[action],
        wanted=wanted,
        back=f"../?{_without_action(asked)}",
        **context,
    )


def _form(action: str) -> type[BulkForm]:
    return BulkResolveForm if action == "resolve" else BulkForm


def _job_filter(asked: QueryDict, form: BulkForm) -> JobFilter:
    """The filter, which ends where the preview was made. Raises ValueError where it has errors or names no state."""
    filters = JobFilterForm(asked)
    if not filters.is_valid():
        raise ValueError("The filter has errors.")
    job_filter = filters.job_filter()
    if job_filter.state is None:
        raise ValueError("Choose a state first: what can be done depends on it.")
    shown_at = form.cleaned_data.get("as_of") if form.is_bound and form.is_valid() else None
    ends = [at for at in (job_filter.created_before, shown_at or timezone.now()) if at is not None]
    return replace(job_filter, created_before=min(ends))


def _ids(asked: QueryDict) -> list[UUID]:
    """The selected rows, a page of them at most."""
    return list(_valid_ids(asked))[:ROWS]


def _valid_ids(asked: QueryDict) -> Iterator[UUID]:
    for text in asked.getlist("job"):
        try:
            yield UUID(text)
        except ValueError:
            continue


def _without_action(asked: QueryDict) -> str:
    query = asked.copy()
    for name in ("action", "scope", "job"):
        query.pop(name, None)
    return query.urlencode()
