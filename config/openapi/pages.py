"""`/schema`, the description as JSON or YAML, and `/docs`, where a person browses it. Both are public."""

from __future__ import annotations

from functools import cache
from html import escape
from threading import Lock
from typing import TYPE_CHECKING, Any

from django.templatetags.static import static
from django.utils.module_loading import import_string
from drf_spectacular.settings import spectacular_settings
from rest_framework.exceptions import ErrorDetail

from api.conditional_requests import conditional_bytes
from api.query_strings import InvalidQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest, HttpResponse

_FORMS: Mapping[str, tuple[str, str]] = {
    "json": ("application/json", "drf_spectacular.renderers.OpenApiJsonRenderer"),
    "yaml": ("application/yaml", "drf_spectacular.renderers.OpenApiYamlRenderer"),
}
# Media types that ask for a form; the first is what anybody else gets.
_ASKED_FOR = {
    "application/json": "json",
    "application/vnd.oai.openapi+json": "json",
    "application/yaml": "yaml",
    "application/vnd.oai.openapi": "yaml",
    "text/yaml": "yaml",
}
# It changes with a release, if at all.
_CACHED = {"Cache-Control": "public, max-age=300"}
_SWAGGER = "drf_spectacular_sidecar/swagger-ui-dist"
# Swagger UI sets styles of elements itself; all else comes from this host or not at all.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_one_at_a_time = Lock()


def show_schema(request: HttpRequest) -> HttpResponse:
    """The description; `?format` decides the form, else the Accept header. Raises InvalidQuery."""
    accepted = request.get_preferred_type(list(_ASKED_FOR)) or "application/json"
    form = request.GET.get("format", _ASKED_FOR[accepted])
    if form not in _FORMS:
        raise InvalidQuery({"format": [ErrorDetail("One of json and yaml.", code="invalid_choice")]})
    media_type, _ = _FORMS[form]
    with (
        _one_at_a_time
    ):  # strangers who ask at once for what is not there yet cost one generation, not a process
        body = _rendered(form)
    return conditional_bytes(request, body, {**_CACHED, "Vary": "Accept"}, content_type=media_type)


def browse(request: HttpRequest) -> HttpResponse:
    """Swagger UI, from the static files of this installation."""
    css, bundle = static(f"{_SWAGGER}/swagger-ui.css"), static(f"{_SWAGGER}/swagger-ui-bundle.js")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Semel</title>'
        f'<link rel="icon" href="data:,"><link rel="stylesheet" href="{escape(css)}">'
    )
    scripts = "".join(
        f'<script src="{escape(source)}"></script>' for source in (bundle, static("api/docs.js"))
    )
    body = f'<div id="docs" data-schema="/schema?format=json"></div>{scripts}'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
    headers = {**_CACHED, "Content-Security-Policy": _POLICY}
    return conditional_bytes(request, page.encode(), headers, content_type="text/html; charset=utf-8")


@cache
def document() -> Mapping[str, Any]:
    """The description of this release. Made when it is first asked for: no process pays for it at its start."""
    made: Mapping[str, Any] = spectacular_settings.DEFAULT_GENERATOR_CLASS().get_schema(public=True)
    return made


@cache
def _rendered(form: str) -> bytes:
    _, renderer = _FORMS[form]
    text: bytes = import_string(renderer)().render(document(), renderer_context={})
    return text
