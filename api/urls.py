"""Addresses under /v1."""

from django.urls import path

from api import artifacts, idempotency_keys, jobs, operation_list

urlpatterns = [
    path("jobs", jobs.JobsView.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>", jobs.JobView.as_view(), name="job"),
    path("jobs/<uuid:job_id>/events", jobs.JobEventsView.as_view(), name="job-events"),
    path("jobs/<uuid:job_id>/cancel", jobs.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<uuid:job_id>/redrive", jobs.JobRedriveView.as_view(), name="job-redrive"),
    path("jobs/<uuid:job_id>/payload", jobs.JobPayloadView.as_view(), name="job-payload"),
    path("jobs/<uuid:job_id>/resolve", jobs.JobResolveView.as_view(), name="job-resolve"),
    path("jobs/<uuid:job_id>/artifacts/<str:name>", artifacts.JobArtifactView.as_view(), name="job-artifact"),
    path("operations", operation_list.OperationsView.as_view(), name="operations"),
    path("idempotency-keys/<path:key>", idempotency_keys.IdempotencyKeyView.as_view(), name="idempotency-key"),
]
