"""What the service says of itself, to anybody."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from config.openapi.endpoints.table import ALWAYS, Answer, Endpoint, conditional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.openapi.endpoints.table import Table

_HTML = {"text/html": {"type": "string"}}


def _page(id: str, summary: str, answer: Answer, *problems: str, description: str) -> Endpoint:  # noqa: A002
    """What changes with a release, if at all."""
    read = _public(id, summary, conditional(answer), *problems, description=description)
    return replace(read, headers=("If-None-Match",))


def _public(
    id: str,  # noqa: A002
    summary: str,
    answers: Mapping[int, Answer],
    *problems: str,
    description: str = "",
) -> Endpoint:
    return Endpoint(
        id=id,
        tag="Service",
        summary=summary,
        description=description,
        is_public=True,
        answers=answers,
        problems=(*ALWAYS, *problems),
    )


ENDPOINTS: Table = {
    ("GET", "/problems/{slug}"): _page(
        "explainProblem",
        "Read what a problem means and what to do",
        Answer(
            description="The problem explained.",
            schema="ProblemExplanation",
            other=_HTML,
            headers=("Vary", "Content-Security-Policy"),
        ),
        "not-found",
        description="A page where the Accept header prefers text/html.",
    ),
    ("GET", "/livez"): _public(
        "isAlive",
        "Whether the process is up",
        {204: Answer(description="It is.", headers=("Cache-Control",))},
    ),
    ("GET", "/readyz"): _public(
        "isReady",
        "Whether requests can be accepted",
        {
            200: Answer(
                description="They can.",
                schema="Readiness",
                example={"status": "ready"},
                headers=("Cache-Control",),
            )
        },
        "service-unavailable",
        description="`degraded`: they can, but the broker is away, so that jobs start later. `details` are for operators: "
        "an API key with the scope admin, sent as anywhere else, or a session of the admin's.",
    ),
    ("GET", "/metrics"): _public(
        "readMetrics",
        "Read the figures, as Prometheus does",
        {
            200: Answer(
                description="Prometheus' text format.",
                other={"text/plain": {"type": "string"}},
                headers=("Cache-Control",),
            )
        },
        "not-found",
        "unauthenticated",
        description="For whoever knows the deployment's `METRICS_TOKEN`, sent as a bearer token; an API key opens nothing here. "
        "Where none is set there is no such address.",
    ),
    ("GET", "/schema"): _page(
        "readSchema",
        "Read this description",
        Answer(
            description="OpenAPI 3.1.",
            schema="Document",
            other={"application/yaml": {"type": "string"}},
            headers=("Vary",),
        ),
        description="`?format=json` or `?format=yaml` decides, else the Accept header; JSON by default.",
    ),
    ("GET", "/docs"): _page(
        "browse",
        "Browse this description",
        Answer(description="A page.", other=_HTML, headers=("Content-Security-Policy",)),
        description="A page that loads nothing from other hosts.",
    ),
}
