"""`X-Request-Id` on every answer: the client's where it is sane, else a new one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import structlog
import uuid_utils

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

MAX_LENGTH = 128  # job.request_id holds it
_SANE = re.compile(rf"[A-Za-z0-9._:-]{{1,{MAX_LENGTH}}}")


class RequestIdMiddleware:
    """Gives the request its id, and every log line that is written on its behalf."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, with the id that its problem document and the log show too."""
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _SANE.fullmatch(given) else str(uuid_utils.uuid7())
        request.META["semel.request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
        response.headers["X-Request-Id"] = request_id
        return response


def request_id_of(request: HttpRequest) -> str:
    """The id that the middleware gave the request."""
    return str(request.META.get("semel.request_id", ""))
