"""Middleware of the HTTP API: request ids, a limit on headers, Content-Length, static files."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
import uuid_utils
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.common import CommonMiddleware
from whitenoise.middleware import WhiteNoiseMiddleware

from api.problems import READ_METHODS, headers_too_large, method_not_allowed

if TYPE_CHECKING:
    from whitenoise.responders import StaticFile

REQUEST_ID_MAX_LENGTH = 128  # the length of job.request_id
_REQUEST_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{REQUEST_ID_MAX_LENGTH}}}")


class RequestIdMiddleware:
    """Give each request an id: the client's `X-Request-Id` if it is well-formed, else a new one.

    Log lines, problem documents and jobs read it from structlog's context variables.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the response with its `X-Request-Id`."""
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid_utils.uuid7())
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
        response.headers["X-Request-Id"] = request_id
        return response


class HeaderLimitMiddleware:
    """Refuse headers of more than HEADERS_MAX_BYTES. The server itself answers 431 to even larger ones."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the response, or 431."""
        size = sum(len(name) + len(value) for name, value in request.META.items() if name.startswith("HTTP_"))
        return headers_too_large(request) if size > settings.HEADERS_MAX_BYTES else self.get_response(request)


class ContentLengthMiddleware(CommonMiddleware):
    """Add Content-Length as Django does, but not to 204 and 304, to which Django would give 0.

    A 204 must have none, and that of a 304 is the length of the omitted body (RFC 9110 §8.6), which caches use.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response = super().process_response(request, response)
        if response.status_code in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
            del response.headers["Content-Length"]
        return response


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc] # WhiteNoise ships no types
    """Serve the static files of the admin and of /docs; answer other methods with a problem document."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponseBase:
        if request.method not in READ_METHODS:
            return method_not_allowed(request)
        response: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
        return response
