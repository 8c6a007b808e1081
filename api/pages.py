"""Public pages: `/schema` (OpenAPI as JSON or YAML), `/docs` (Swagger UI) and `/problems/{slug}`."""

from dataclasses import asdict
from functools import cache
from html import escape
from threading import Lock

import orjson
import yaml
from django.http import Http404, HttpRequest, HttpResponse
from django.templatetags.static import static
from rest_framework.exceptions import ErrorDetail

from api.conditional_requests import conditional, conditional_bytes
from api.forms import InvalidQuery
from api.openapi import document
from api.problem_catalogue import PROBLEMS, Problem

# The formats by the media types of the Accept header; the first is the default.
_FORMATS = {
    "application/json": "json",
    "application/vnd.oai.openapi+json": "json",
    "application/yaml": "yaml",
    "application/vnd.oai.openapi": "yaml",
    "text/yaml": "yaml",
}
# The document changes only with a release.
_CACHED = {"Cache-Control": "public, max-age=300"}
_SWAGGER = "drf_spectacular_sidecar/swagger-ui-dist"
# Swagger UI sets styles of elements itself; everything else must come from this host.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The page of a problem loads nothing, and nothing can be injected into it. It changes with a release at most.
_PROBLEM_HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Vary": "Accept",
}
_render_lock = Lock()


def show_schema(request: HttpRequest) -> HttpResponse:
    """Return the document in the format that `?format` names, else the Accept header. Raises InvalidQuery."""
    accepted = request.get_preferred_type(list(_FORMATS)) or "application/json"
    name = request.GET.get("format", _FORMATS[accepted])
    if name not in _FORMATS.values():
        raise InvalidQuery({"format": [ErrorDetail("One of json and yaml.", code="invalid_choice")]})
    with _render_lock:  # concurrent first requests cost one rendering
        body = _render(name)
    return conditional_bytes(request, body, {**_CACHED, "Vary": "Accept"}, content_type=f"application/{name}")


def browse(request: HttpRequest) -> HttpResponse:
    """Return a page with Swagger UI, from the static files of this installation."""
    css, bundle = static(f"{_SWAGGER}/swagger-ui.css"), static(f"{_SWAGGER}/swagger-ui-bundle.js")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Semel</title>'
        f'<link rel="icon" href="data:,"><link rel="stylesheet" href="{escape(css)}">'
    )
    scripts = "".join(f'<script src="{escape(source)}"></script>' for source in (bundle, static("api/docs.js")))
    body = f'<div id="docs" data-schema="/schema?format=json"></div>{scripts}'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
    headers = {**_CACHED, "Content-Security-Policy": _POLICY}
    return conditional_bytes(request, page.encode(), headers, content_type="text/html; charset=utf-8")


@cache
def _render(name: str) -> bytes:
    if name == "json":
        return orjson.dumps(document(), option=orjson.OPT_INDENT_2)
    return yaml.dump(document(), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, encoding="utf-8")


def explain_problem(request: HttpRequest, slug: str) -> HttpResponse:
    """Return the explanation of a problem: JSON, or HTML if the client prefers it, as browsers do."""
    problem = PROBLEMS.get(slug)
    if problem is None:
        raise Http404
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        page = _problem_page(slug, problem).encode()
        return conditional_bytes(request, page, _PROBLEM_HEADERS, content_type="text/html; charset=utf-8")
    fields = {name: value for name, value in asdict(problem).items() if name != "exceptions"}
    key = {"use": problem.key, "reason": problem.key.reason}
    return conditional(request, {"code": slug, **fields, "key": key}, _PROBLEM_HEADERS)


def _problem_page(slug: str, problem: Problem) -> str:
    """Return HTML 5 without scripts, styles or links."""
    status = f"HTTP status {problem.status}" if problem.status else "Appears in the <code>error</code> of a job"
    retry = (
        "Yes: the same request can succeed later without a change. Wait for Retry-After, if there is one."
        if problem.retryable
        else "No: the same request would get the same response."
    )
    sections = {
        "What it means": problem.meaning,
        "Can I retry?": retry,
        "Which Idempotency-Key to use": problem.key.reason,
        "How to fix it": problem.advice,
    }
    text = "".join(f"<h2>{head}</h2><p>{escape(text)}</p>" for head, text in sections.items())
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{slug}</title>'
    body = f"<h1>{slug}</h1><p><strong>{escape(problem.title)}</strong> {status}.</p>{text}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
