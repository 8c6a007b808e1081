"""The addresses of a job's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.urls import path

from jobs.models import Job
from operators.admin.attention_page import show_attention, show_errors
from operators.admin.bulk_pages import act_on_many
from operators.admin.job_act import act_on_job, release_key_of_job
from operators.admin.job_list import show_jobs
from operators.admin.job_page import show_job
from operators.admin.job_resolve import show_resolve
from operators.admin.pages import LookOnly

if TYPE_CHECKING:
    from django.urls import URLPattern


@admin.register(Job)
class JobAdmin(LookOnly):
    """Jobs. Django's own lists count rows and skip over them; these do neither."""

    def get_urls(self) -> list[URLPattern]:
        """The pages of jobs, in place of Django's."""
        view = self.admin_site.admin_view
        return [
            path("", view(show_jobs), name="jobs_job_changelist"),
            path("bulk/", view(act_on_many), name="jobs_job_bulk"),
            path("attention/", view(show_attention), name="jobs_job_attention"),
            path("errors/", view(show_errors), name="jobs_job_errors"),
            path("<uuid:job_id>/", view(show_job), name="jobs_job_change"),
            path("<uuid:job_id>/resolve/", view(show_resolve), name="jobs_job_resolve"),
            path("<uuid:job_id>/release-key/", view(release_key_of_job), name="jobs_job_release_key"),
            path("<uuid:job_id>/<slug:name>/", view(act_on_job), name="jobs_job_act"),
        ]
