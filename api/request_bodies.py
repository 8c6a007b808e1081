"""Request bodies of the api process, between the WSGI server and Django: bodies in chunks, and bodies that are not read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class RequestBodies:
    """Wrap Django's WSGI application. Accept bodies without a Content-Length, and close connections with an unread body.

    Django sends some responses without reading the body, for example without a valid API key or while the database is down. Then
    the server closes the connection. The header `Connection: close` keeps a client from sending its next request on it.
    """

    def __init__(self, django: WSGIApplication) -> None:
        self._django = django

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if _is_chunked(environ):
            limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            environ["wsgi.input"] = ChunkedBody(environ["wsgi.input"], limit)
            environ["CONTENT_LENGTH"] = str(limit)
        if environ.get("CONTENT_LENGTH", "0") in ("", "0"):
            return self._django(environ, start_response)
        body = environ["wsgi.input"] = WatchedBody(environ["wsgi.input"])

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:  # noqa: ANN401 - WSGI's signature
            if not body.is_read:
                headers = [*headers, ("Connection", "close")]
            return start_response(status, headers, *error)

        return self._django(environ, start)


def _is_chunked(environ: WSGIEnvironment) -> bool:
    return not environ.get("CONTENT_LENGTH") and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()


class ChunkedBody:
    """A body without a Content-Length. Django gets `limit` as its Content-Length and does not read beyond it.

    Nothing is read before Django reads, so that a client without an API key cannot hold a thread with a slow body.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = self._left = limit
        self.readline = stream.readline  # Django requires it, but never calls it for a body of JSON

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raise RequestDataTooBig if the body is longer than the limit."""
        data = self._stream.read(size)
        self._left -= len(data)
        # Read some of the excess: a client whose body is not read to its end may never see why it was refused.
        if self._left <= 0 and self._stream.read(self._limit):
            raise RequestDataTooBig
        return data


class WatchedBody:
    """A body that records whether anything has been read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.is_read = False

    def read(self, *size: int) -> bytes:
        self.is_read = True
        return self._stream.read(*size)

    def readline(self, *size: int) -> bytes:
        self.is_read = True
        return self._stream.readline(*size)
