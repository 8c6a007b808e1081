"""The form in which an operator gives the verdict about an unknown outcome."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from foundation import exact_json
from foundation.exact_json import MalformedJson
from jobs.models import JobStep
from jobs.services import verdict_errors
from jobs.states import State
from operators.admin.action_page import get_job_or_404
from operators.admin.page_base import ReasonForm, actor_of, form_data, render_page, run_service
from operators.job_actions import resolve_job
from operators.job_detail import open_effects

VERDICTS = {JobStep.State.DONE: "The effect happened", JobStep.State.NOT_DONE: "The effect did not happen"}
NEXT_STATES = {State.SUCCEEDED: "Succeeded", State.QUEUED: "Queued", State.FAILED: "Failed"}
_EXPLAINED_STATES = {
    State.SUCCEEDED: "Succeeded: the job ends with the result below",
    State.QUEUED: "Queued: the next attempt continues after the finished steps",
    State.FAILED: "Failed: the job ends",
}


class VerdictForm(ReasonForm):
    """What happened to the effect, and the job's next state."""

    verdict = forms.TypedChoiceField(choices=VERDICTS, coerce=JobStep.State, widget=forms.RadioSelect, label="Verdict")
    then = forms.TypedChoiceField(
        choices=NEXT_STATES, coerce=State, widget=forms.RadioSelect, label="Next state of the job"
    )
    field_order = ["verdict", "then", "note"]

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if {"verdict", "then"} <= data.keys():
            errors = verdict_errors(verdict=data["verdict"], then=data["then"], result=data.get("result"))
            for field, error in errors.items():
                self.add_error(field, error)
        return data


class ResolveForm(VerdictForm):
    """The verdict about one effect of one job."""

    step = forms.ChoiceField(widget=forms.RadioSelect, label="Effect")
    result = forms.CharField(
        required=False,
        strip=True,
        widget=forms.Textarea(attrs={"rows": 4, "class": "code", "spellcheck": "false"}),
        help_text="JSON, as the operation would have returned it. Only if the effect happened. Empty means null.",
    )
    field_order = ["step", "verdict", "then", "result", "note"]

    def __init__(self, steps: Sequence[JobStep], data: Any = None) -> None:  # noqa: ANN401 - a QueryDict or None
        only = steps[0].name if len(steps) == 1 else None
        super().__init__(data, label_suffix="", initial={"step": only})
        fields: Any = self.fields
        fields["step"].choices = [(step.name, f"{step.name} ({step.downstream_key})") for step in steps]
        fields["then"].choices = _EXPLAINED_STATES
        fields["note"].label = "How do you know?"
        fields["note"].help_text = "Your source and what it reported. Kept in the audit log and in the job's history."

    def clean_result(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value with exact numbers."""
        text = self.cleaned_data["result"]
        try:
            return exact_json.loads(text.encode()) if text else None
        except (MalformedJson, UnicodeEncodeError) as error:
            raise forms.ValidationError(f"This is not JSON. {error}") from error


def resolve(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """GET shows the form. POST writes verdict, state, history and audit entry together, and returns to the job's page."""
    job, steps = get_job_or_404(job_id), open_effects(job_id)
    form = ResolveForm(steps, form_data(request))
    if form.is_valid():
        service = partial(resolve_job, job_id=job_id, actor=actor_of(request), **form.cleaned_data)
        run_service(request, service, success=f"Resolved. The job is {form.cleaned_data['then']}.")
        return redirect("admin:jobs_job_change", job_id=job_id)
    return render_page(request, "resolve.html", title="Resolve", job=job, steps=steps, form=form)
