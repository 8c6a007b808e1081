"""Where jobs are found."""

from django.urls import path

from jobs.api import artifacts, keys, operations, views

urlpatterns = [
    path("jobs", views.JobsView.as_view(), name="jobs"),
    path("jobs/<uuid:job_id>", views.JobView.as_view(), name="job"),
    path("jobs/<uuid:job_id>/events", views.JobEventsView.as_view(), name="job-events"),
    path("jobs/<uuid:job_id>/cancel", views.JobCancelView.as_view(), name="job-cancel"),
    path("jobs/<uuid:job_id>/redrive", views.JobRedriveView.as_view(), name="job-redrive"),
    path("jobs/<uuid:job_id>/payload", views.JobPayloadView.as_view(), name="job-payload"),
    path("jobs/<uuid:job_id>/resolve", views.JobResolveView.as_view(), name="job-resolve"),
    path("jobs/<uuid:job_id>/artifacts/<str:name>", artifacts.JobArtifactView.as_view(), name="job-artifact"),
    path("operations", operations.OperationsView.as_view(), name="operations"),
    path("idempotency-keys/<path:key>", keys.IdempotencyKeyView.as_view(), name="idempotency-key"),
]
