"""Who asks for an event stream where none is served learns where one is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation

if TYPE_CHECKING:
    from rest_framework.request import Request

EVENT_STREAM = "text/event-stream"


class NotStreamedHere(NotAcceptable):
    """This process lists events; another one streams them."""

    def __init__(self, path: str) -> None:
        self.streams_url: str = settings.STREAMS_URL
        place = f"at {self.streams_url}{path}" if self.streams_url else "by the streams process"
        super().__init__(f"Event streams are served {place}; here, ask for application/json.")


class EventsNegotiation(DefaultContentNegotiation):
    """DRF's own, with a better word for whoever wants a stream. No redirect: clients drop their credentials on one."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:  # noqa: ANN401 - DRF's types
        """The renderer and its media type. Raises NotStreamedHere, or NotAcceptable for any other wish."""
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable as error:
            if EVENT_STREAM not in request.headers.get("Accept", "").lower():
                raise
            if request.method not in ("GET", "HEAD"):  # which is refused for itself
                return renderers[-1], renderers[-1].media_type
            raise NotStreamedHere(request.path) from error
