"""Acting on one job: what it will do, a confirmation, the service, and back to the job's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect

from idempotency.errors import IdempotencyError
from jobs.errors import JobError
from jobs.models import Job
from operators.admin.action_buttons import ACTIONS, RELEASE, perform
from operators.admin.pages import actor_of, page, posted, requires
from operators.inspection import record_of
from operators.job_actions import release_key

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

# What a service refuses with: its words are fit to show.
REFUSALS = (JobError, IdempotencyError, ValueError)
NOTE_MAX = 2_000


class NoteForm(forms.Form):
    """Why."""

    note = forms.CharField(
        max_length=NOTE_MAX,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Kept in the audit log, beside your name.",
    )


class NotedForm(NoteForm):
    """Why; without a reason it is not done."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type] # passed on
        self.fields["note"].required = True


class ReleaseForm(NotedForm):
    """Why a key is freed before its time, and whose it was when that was decided."""

    owner = forms.IntegerField(widget=forms.HiddenInput)


@requires("jobs.operate_job")
def act_on_job(request: HttpRequest, job_id: UUID, name: str) -> HttpResponse:
    """GET asks for confirmation; POST does it, and tells what came of it on the job's page."""
    action = ACTIONS.get(name)
    if action is None or action.perform is None:
        raise Http404
    job = found(job_id)
    form = NoteForm(posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            perform(action, job_id=job_id, actor=actor_of(request), note=form.cleaned_data["note"])
        except REFUSALS as error:
            messages.error(request, f"Not done. {error}")
        else:
            messages.success(request, action.done)
        return redirect("admin:jobs_job_change", job_id=job_id)
    return page(request, "confirm.html", title=action.label, action=action, job=job, form=form)


@requires("jobs.operate_job")
def release_key_of_job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """As `act_on_job`, for the job's idempotency key. The record's `owner`, as it was shown, is the fence."""
    job = found(job_id)
    record = record_of(job)
    if record is None:
        raise Http404("The key is free already.")
    form = ReleaseForm(posted(request), initial={"owner": record.owner})
    if request.method == "POST" and form.is_valid():
        try:
            release_key(record_id=record.id, actor=actor_of(request), **form.cleaned_data)
        except REFUSALS as error:
            messages.error(request, f"Not done. {error}")
        else:
            messages.success(
                request, f"The key {record.key} is free: the next request under it is a new one."
            )
        return redirect("admin:jobs_job_change", job_id=job_id)
    return page(request, "confirm.html", title=RELEASE.label, action=RELEASE, job=job, form=form)


def found(job_id: UUID) -> Job:
    """The job, or a page that says that there is none."""
    job = Job.objects.filter(pk=job_id).prefetch_related("tenant").first()
    if job is None:
        raise Http404(f"There is no job {job_id}.")
    return job
