"""How long an answer is, where it has a body at all."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from django.middleware.common import CommonMiddleware

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


class ContentLengthMiddleware(CommonMiddleware):
    """As Django's, which would give 204 and 304 a length of 0 as well.

    A 204 must have none, and a 304 that of the answer which is not sent (RFC 9110 §8.6): a cache may believe it.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """The answer, with its length where it has one."""
        response = super().process_response(request, response)
        if response.status_code in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
            del response.headers["Content-Length"]
        return response
