"""Every address of Semel."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from api.idempotency_keys import show_policy
from api.inbox import InboxView
from api.pages import browse, explain_problem, show_schema
from api.problems import read_only
from observability.health import livez, readyz
from observability.metrics.page import show_metrics

urlpatterns = [
    path("v1/inbox/<slug:source>", InboxView.as_view(), name="inbox"),
    path("v1/", include("api.urls")),
    path(".well-known/idempotency", read_only(show_policy), name="idempotency-policy"),
    path("problems/<slug:slug>", read_only(explain_problem), name="problem"),
    path("schema", read_only(show_schema), name="schema"),
    path("docs", read_only(browse), name="docs"),
    path("livez", read_only(livez)),
    path("readyz", read_only(readyz)),
    path("metrics", read_only(show_metrics)),
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
]

handler400 = "api.problems.bad_request"
handler403 = "api.problems.forbidden"
handler404 = "api.problems.not_found"
handler500 = "api.problems.internal_error"
