"""`/problems/<slug>`: what a problem means and what to do, for whoever follows its `type`: JSON, or a page."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from django.http import Http404

from api.conditional_requests import conditional, conditional_bytes
from api.problem_catalogue import PROBLEMS, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest, HttpResponse

_JSON, _HTML = "application/json", "text/html"
# The page loads nothing, and nothing may be put into it. It changes with a release, if at all.
_HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Vary": "Accept",
}


def explain_problem(request: HttpRequest, slug: str) -> HttpResponse:
    """The problem explained: JSON unless the client would rather have HTML, as browsers would."""
    problem = PROBLEMS.get(slug)
    if problem is None:
        raise Http404
    if request.get_preferred_type([_JSON, _HTML]) == _HTML:
        page = _page(slug, problem).encode()
        return conditional_bytes(request, page, _HEADERS, content_type=f"{_HTML}; charset=utf-8")
    return conditional(request, explanation(slug, problem), _HEADERS)


def explanation(slug: str, problem: Problem) -> Mapping[str, Any]:
    """All that the catalogue says of the problem."""
    key = {"use": problem.key, "reason": problem.key.reason}
    return {"code": slug, **asdict(problem), "key": key}


def _page(slug: str, problem: Problem) -> str:
    """HTML 5 without script, style or link to anywhere."""
    status = (
        f"HTTP status {problem.status}" if problem.status else "Stands in the <code>error</code> of a job"
    )
    answers = {
        "What it means": problem.meaning,
        "Whether to retry": _whether_to_retry(problem),
        "With which Idempotency-Key": problem.key.reason,
        "How to mend it": problem.advice,
    }
    sections = "".join(f"<h2>{head}</h2><p>{escape(text)}</p>" for head, text in answers.items())
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{slug}</title>'
    body = f"<h1>{slug}</h1><p><strong>{escape(problem.title)}</strong> {status}.</p>{sections}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _whether_to_retry(problem: Problem) -> str:
    if problem.retryable:
        return (
            "Yes: the same request can succeed later without a change. Wait for Retry-After, if there is one."
        )
    return "No: the same request would be answered the same way."
