"""The addresses at which a request may wait. All others are the api's (config/urls.py)."""

from django.urls import path

from streams import views

urlpatterns = [
    path("v1/jobs/<uuid:job_id>", views.WaitingJobView.as_view()),
    path("v1/jobs/<uuid:job_id>/events", views.EventStreamView.as_view(), name="event-stream"),
]
