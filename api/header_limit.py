"""Headers over the limit are a problem like any other. What is too large for the server itself never comes this far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from api.problems import headers_too_large

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse


class HeaderLimitMiddleware:
    """Refuses a request whose headers are larger than HEADERS_MAX_BYTES, before anybody reads one of them."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, or 431."""
        size = sum(len(name) + len(value) for name, value in request.META.items() if name.startswith("HTTP_"))
        return headers_too_large(request) if size > settings.HEADERS_MAX_BYTES else self.get_response(request)
