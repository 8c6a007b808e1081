"""`/v1/jobs/{id}/artifacts/{name}`: a file that the job produced, whole or in part."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID

import structlog
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request

from accounts.authentication import principal_of
from api.base_view import ApiView
from api.conditional_requests import is_not_modified
from api.file_responses import AsyncFileChunks, FileChunks, Part, requested_part
from api.forms import require_no_query
from jobs.artifact_storage import open_file
from jobs.errors import ArtifactUnreadable
from jobs.selectors import get_artifact

if TYPE_CHECKING:
    from django.core.files import File

    from jobs.models import JobArtifact

log = structlog.get_logger(__name__)

_UNSAFE_IN_ASCII_NAME = re.compile(r"[^A-Za-z0-9._ -]", re.ASCII)


class _FileNegotiation(BaseContentNegotiation):
    """Ignore Accept: a file has one type, and a problem is JSON."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:  # noqa: ANN401, ARG002 - DRF's types
        return renderers[0], renderers[0].media_type


class JobArtifactView(ApiView):
    """Download one artifact."""

    content_negotiation_class = _FileNegotiation

    def get(self, request: Request, job_id: UUID, name: str) -> HttpResponseBase:
        """Return the file, one range of it, or 304."""
        principal = principal_of(request)
        require_no_query(request)
        find = partial(get_artifact, tenant_id=principal.tenant_id, mode=principal.mode, job_id=job_id, name=name)
        artifact = find()
        tag = f'"{bytes(artifact.digest).hex()}"'
        if is_not_modified(tag, request.headers.get("If-None-Match", "")):
            return _not_modified(tag)
        # Ranges are defined for GET alone (RFC 9110 §14.2).
        part = requested_part(request.headers, tag=tag, size=artifact.size) if request.method == "GET" else None
        file = _open(artifact)
        if file is None:
            find()  # raises if the artifact was erased or has expired since the first read; if not, its row is wrong
            raise ArtifactUnreadable
        response = _send(request, artifact, part, file)
        for header, value in (_validators(tag) | _description(artifact)).items():
            response.headers[header] = value
        return response


def _not_modified(tag: str) -> HttpResponse:
    response = HttpResponse(status=304, headers=_validators(tag))
    del response.headers["Content-Type"]
    return response


def _open(artifact: JobArtifact) -> File[bytes] | None:
    """Return the file, or None if it differs from its row or cannot be read, whatever the storage raises."""
    try:
        file = open_file(artifact.storage_name)
        size = file.size
    except Exception:
        log.exception("artifact.unreadable", job_id=str(artifact.job_id), name=artifact.name)
        return None
    if size == artifact.size:
        return file
    log.error("artifact.other_size", job_id=str(artifact.job_id), name=artifact.name, size=size)
    file.close()
    return None


def _send(request: Request, artifact: JobArtifact, part: Part | None, file: File[bytes]) -> HttpResponseBase:
    start, end = (part.start, part.end) if part else (0, artifact.size)
    headers = {"Content-Length": str(end - start), **({"Content-Range": part.content_range} if part else {})}
    if request.method == "HEAD":
        file.close()
        return HttpResponse(content_type=artifact.content_type, headers=headers)
    chunks = FileChunks(file, start, end)
    is_async = isinstance(request._request, ASGIRequest)  # noqa: SLF001 - ASGI would read a plain iterator whole first
    return StreamingHttpResponse(
        AsyncFileChunks(chunks) if is_async else chunks,
        status=206 if part else 200,
        content_type=artifact.content_type,
        headers=headers,
    )


def _validators(tag: str) -> dict[str, str]:
    """Return the caching headers. `no-transform` stops a proxy from compressing the file, which would make byte ranges wrong."""
    return {"ETag": tag, "Cache-Control": "private, no-cache, no-transform"}


def _description(artifact: JobArtifact) -> dict[str, str]:
    """Return headers that keep a browser from running what a job wrote."""
    fallback = _UNSAFE_IN_ASCII_NAME.sub("_", artifact.filename)
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(artifact.filename, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
