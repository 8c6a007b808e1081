"""Middleware: request ids, a limit on headers, what only pages for browsers need, Content-Length, static files."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import structlog
import uuid_utils
from django.conf import settings
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.module_loading import import_string
from whitenoise.middleware import WhiteNoiseMiddleware

from api.problems import READ_METHODS, headers_too_large, method_not_allowed

if TYPE_CHECKING:
    from whitenoise.responders import StaticFile

Handler = Callable[..., HttpResponse]

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
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid_utils.uuid7())
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            response = self.get_response(request)
        finally:
            structlog.contextvars.reset_contextvars(**bound)
        response.headers["X-Request-Id"] = request_id
        return response


class HeaderLimitMiddleware:
    """Refuse headers of more than HEADERS_MAX_BYTES. The server itself answers 431 to even larger ones."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the response, or 431."""
        size = 0
        for name, value in request.META.items():
            if name[:5] == "HTTP_":
                size += len(name) + len(value)
        return headers_too_large(request) if size > settings.HEADERS_MAX_BYTES else self.get_response(request)


class BrowserMiddleware:
    """Pass requests for pages through settings.BROWSER_MIDDLEWARE, and requests of the API around it.

    Sessions, CSRF tokens, messages and static files concern no client with an API key. Its responses get the same security
    headers.
    """

    def __init__(self, get_response: Handler) -> None:
        self._api = _convert_exceptions(partial(_check_host, get_response))
        self._security, self._frames = SecurityMiddleware(get_response), XFrameOptionsMiddleware(get_response)
        self._pages = get_response
        self._view_hooks: list[Callable[..., HttpResponseBase | None]] = []
        for path in reversed(settings.BROWSER_MIDDLEWARE):
            middleware = import_string(path)(self._pages)
            self._pages = _convert_exceptions(middleware)
            if hasattr(middleware, "process_view"):
                self._view_hooks.insert(0, middleware.process_view)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the response with its security headers and its length."""
        if not _is_api(request):
            return self._pages(request)
        response = self._api(request)
        add_content_length(response)
        self._frames.process_response(request, response)
        self._security.process_response(request, response)
        return response

    def process_view(
        self, request: HttpRequest, view: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        """Do what Django does with this hook of each middleware: the first response of one is the response."""
        if _is_api(request):
            return None
        answers = (hook(request, view, args, kwargs) for hook in self._view_hooks)
        return next((answer for answer in answers if answer is not None), None)


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/v1/")


def _convert_exceptions(get_response: Handler) -> Handler:
    """Do what Django does around each middleware: make a response of an exception."""
    return cast("Handler", convert_exception_to_response(get_response))


def _check_host(get_response: Handler, request: HttpRequest) -> HttpResponse:
    """Refuse a request for an unknown host, as Django's CommonMiddleware does."""
    request.get_host()
    return get_response(request)


class ContentLengthMiddleware(CommonMiddleware):
    """Add Content-Length by our rule instead of Django's."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:  # noqa: ARG002
        add_content_length(response)
        return response


def add_content_length(response: HttpResponseBase) -> None:
    """Add Content-Length as Django does, but not to 204 and 304, to which Django would give 0.

    A 204 must have none, and that of a 304 is the length of the omitted body (RFC 9110 §8.6), which caches use.
    """
    if response.status_code in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        del response.headers["Content-Length"]
    elif isinstance(response, HttpResponse) and not response.has_header("Content-Length"):
        response.headers["Content-Length"] = str(len(response.content))


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc] # WhiteNoise ships no types
    """Serve the static files of the admin and of /docs; answer other methods with a problem document."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponseBase:
        if request.method not in READ_METHODS:
            return method_not_allowed(request)
        response: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
        return response
