"""`/schema`, the OpenAPI document as JSON or YAML, and `/docs`, where a person browses it. Both are public."""

from __future__ import annotations

from functools import cache
from html import escape
from threading import Lock
from typing import TYPE_CHECKING

import orjson
import yaml
from django.templatetags.static import static
from rest_framework.exceptions import ErrorDetail

from api.conditional_requests import conditional_bytes
from api.openapi import document
from api.query_strings import InvalidQuery

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

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
    scripts = "".join(
        f'<script src="{escape(source)}"></script>' for source in (bundle, static("api/docs.js"))
    )
    body = f'<div id="docs" data-schema="/schema?format=json"></div>{scripts}'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
    headers = {**_CACHED, "Content-Security-Policy": _POLICY}
    return conditional_bytes(request, page.encode(), headers, content_type="text/html; charset=utf-8")


@cache
def _render(name: str) -> bytes:
    if name == "json":
        return orjson.dumps(document(), option=orjson.OPT_INDENT_2)
    return yaml.dump(
        document(), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, encoding="utf-8"
    )
