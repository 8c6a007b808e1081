"""The api process: plain requests, served by threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("SEMEL_PROCESS", "api")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from api.chunked_body import ChunkedBody, is_chunked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

_django = get_wsgi_application()


class WatchedBody:
    """A request's body, and whether anybody has begun to read it."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - whatever the server gives
        self._stream = stream
        self.is_read = False

    def read(self, *size: int) -> bytes:
        """What is next of it."""
        self.is_read = True
        return self._stream.read(*size)  # type: ignore[no-any-return]

    def readline(self, *size: int) -> bytes:
        """The next line of it."""
        self.is_read = True
        return self._stream.readline(*size)  # type: ignore[no-any-return]


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Django's answer; a body in chunks is a body like any other.

    An answer that did not wait for its body (a stranger's, or while the database is away) says that it is the connection's
    last. The server closes it in any case; a client that is not told may send its next request into the closing.
    """
    if is_chunked(environ):
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        environ["wsgi.input"] = ChunkedBody(environ["wsgi.input"], limit)
        environ["CONTENT_LENGTH"] = str(limit)
    if environ.get("CONTENT_LENGTH", "0") in ("", "0"):
        return _django(environ, start_response)
    body = environ["wsgi.input"] = WatchedBody(environ["wsgi.input"])

    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:  # noqa: ANN401 - as the server has it
        return start_response(
            status, headers if body.is_read else [*headers, ("Connection", "close")], *error
        )

    return _django(environ, start)
