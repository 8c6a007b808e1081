"""Render responses as JSON, and refuse event streams in the api process: only the streams process serves them."""

from collections.abc import Mapping
from typing import Any

import orjson
from django.conf import settings
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

EVENT_STREAM = "text/event-stream"


class OrjsonRenderer(BaseRenderer):
    """Render UTF-8 JSON. Raise TypeError for an unknown type, which DRF's renderer would guess."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,  # noqa: ANN401 - any JSON value
        accepted_media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        renderer_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data)


class NotStreamedHere(NotAcceptable):
    """This process lists events; the streams process streams them."""

    def __init__(self, path: str) -> None:
        self.streams_url: str = settings.STREAMS_URL
        place = f"at {self.streams_url}{path}" if self.streams_url else "by the streams process"
        super().__init__(f"Event streams are served {place}. Send Accept: application/json here.")


class JsonNegotiation(DefaultContentNegotiation):
    """DRF's negotiation, with a short way for what nearly every request sends: JSON, or no preference."""

    def select_parser(self, request: Request, parsers: Any) -> Any:  # noqa: ANN401 - DRF's types
        """Return the parser of the body, or None."""
        if len(parsers) == 1 and request.content_type == parsers[0].media_type:
            return parsers[0]
        return super().select_parser(request, parsers)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:  # noqa: ANN401 - DRF's types
        """Return the renderer and its media type. Raises NotAcceptable."""
        if len(renderers) == 1 and request.META.get("HTTP_ACCEPT", "*/*") in ("*/*", renderers[0].media_type):
            return renderers[0], renderers[0].media_type
        return super().select_renderer(request, renderers, format_suffix)


class EventsNegotiation(JsonNegotiation):
    """Return the URL of the streams process to a client that accepts only event streams. No redirect.

    Clients drop credentials on it.
    """

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:  # noqa: ANN401 - DRF's types
        """Return the renderer and its media type. Raises NotStreamedHere or NotAcceptable."""
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable as error:
            if EVENT_STREAM not in request.headers.get("Accept", "").lower():
                raise
            if request.method not in ("GET", "HEAD"):  # refused later, for its method
                return renderers[-1], renderers[-1].media_type
            raise NotStreamedHere(request.path) from error
