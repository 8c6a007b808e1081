"""The form in which a person says what became of an effect that nobody else can know of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.shortcuts import redirect

from foundation import exact_json
from foundation.exact_json import MalformedJson
from jobs.models import JobStep
from jobs.states import State
from jobs.verdicts import verdict_errors
from operators.admin.job_act import NOTE_MAX, REFUSALS, found
from operators.admin.pages import actor_of, page, posted, requires
from operators.inspection import steps_in_doubt
from operators.job_actions import resolve_job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from django.http import HttpRequest, HttpResponse

VERDICTS = [(JobStep.State.DONE, "It was done"), (JobStep.State.NOT_DONE, "It was not done")]
WAYS = [
    (State.SUCCEEDED, "Succeeded: the result below is the job's"),
    (State.QUEUED, "Queued: the job goes on from its finished steps"),
    (State.FAILED, "Failed for good"),
]


class ResolveForm(forms.Form):
    """The step, what became of it, where the job goes, and how you know."""

    step = forms.ChoiceField(widget=forms.RadioSelect, label="Which effect")
    verdict = forms.TypedChoiceField(
        choices=VERDICTS, coerce=JobStep.State, widget=forms.RadioSelect, label="What became of it"
    )
    then = forms.TypedChoiceField(
        choices=WAYS, coerce=State, widget=forms.RadioSelect, label="The job is then"
    )
    result = forms.CharField(
        required=False,
        strip=True,
        widget=forms.Textarea(attrs={"rows": 4, "class": "code", "spellcheck": "false"}),
        help_text="JSON, as the operation would have returned it; only where the effect was done. Empty: null.",
    )
    note = forms.CharField(
        max_length=NOTE_MAX,
        widget=forms.Textarea(attrs={"rows": 3}),
        label="How do you know?",
        help_text="Whom you asked, and what you were told. Kept in the audit log and in the job's history, beside your name.",
    )

    def __init__(self, steps: Sequence[JobStep], data: Any = None) -> None:  # noqa: ANN401 - a QueryDict or None
        alone = steps[0].name if len(steps) == 1 else None
        super().__init__(data, label_suffix="", initial={"step": alone})
        step: Any = self.fields["step"]
        step.choices = [(step.name, f"{step.name} ({step.downstream_key})") for step in steps]

    def clean_result(self) -> Any:  # noqa: ANN401 - any JSON value
        """The value; numbers exact."""
        text = self.cleaned_data["result"]
        try:
            return exact_json.loads(text.encode()) if text else None
        except (MalformedJson, UnicodeEncodeError) as error:
            raise forms.ValidationError(f"This is not JSON. {error}") from error

    def clean(self) -> dict[str, Any]:
        """Apply the rule for verdicts."""
        if not self.errors:
            data = self.cleaned_data
            errors = verdict_errors(verdict=data["verdict"], then=data["then"], result=data["result"])
            for field, error in errors.items():
                self.add_error(field, error)
        return self.cleaned_data


@requires("jobs.operate_job")
def show_resolve(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """GET asks; POST writes verdict, state, history and audit entry together, and goes back to the job's page."""
    job, steps = found(job_id), steps_in_doubt(job_id)
    form = ResolveForm(steps, posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            resolve_job(job_id=job_id, actor=actor_of(request), **form.cleaned_data)
        except REFUSALS as error:
            messages.error(request, f"Not done. {error}")
        else:
            messages.success(request, f"Resolved: the job is {form.cleaned_data['then']}.")
        return redirect("admin:jobs_job_change", job_id=job_id)
    return page(request, "resolve.html", title="Resolve", job=job, steps=steps, form=form)
