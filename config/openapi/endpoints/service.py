"""What the service says of itself, to anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.openapi.endpoints.table import ALWAYS, Answer, Endpoint

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

_PAGE = {"text/html": {"type": "string"}}


def _public(id: str, summary: str, answer: Answer, *problems: str, description: str = "") -> Endpoint:  # noqa: A002
    return Endpoint(
        id=id,
        tag="Service",
        summary=summary,
        description=description,
        is_public=True,
        answers={200 if answer.schema or answer.other else 204: answer},
        problems=(*ALWAYS, *problems),
    )


ENDPOINTS: Table = {
    ("GET", "/problems/{slug}"): _public(
        "explainProblem",
        "Read what a problem means and what to do",
        Answer(
            description="The problem explained.",
            schema="ProblemExplanation",
            other=_PAGE,
            headers=("Cache-Control", "Vary", "Content-Security-Policy"),
        ),
        "not-found",
        description="A page where the Accept header prefers text/html.",
    ),
    ("GET", "/livez"): _public(
        "isAlive", "Whether the process is up", Answer(description="It is.", headers=("Cache-Control",))
    ),
    ("GET", "/readyz"): _public(
        "isReady",
        "Whether requests can be accepted",
        Answer(
            description="They can.",
            schema="Readiness",
            example={"status": "ready"},
            headers=("Cache-Control",),
        ),
        "service-unavailable",
        description="`degraded`: they can, but the broker is away, so that jobs start later.",
    ),
    ("GET", "/schema"): _public(
        "readSchema",
        "Read this description",
        Answer(
            description="OpenAPI 3.1.",
            schema="Document",
            other={"application/yaml": {"type": "string"}},
            headers=("Cache-Control", "Vary"),
        ),
        description="`?format=json` or `?format=yaml` decides, else the Accept header; JSON by default.",
    ),
    ("GET", "/docs"): _public(
        "browse",
        "Browse this description",
        Answer(description="A page.", other=_PAGE, headers=("Cache-Control", "Content-Security-Policy")),
        description="A page that loads nothing from other hosts.",
    ),
}
