"""Bodies that come in chunks, with no Content-Length: to Django's WSGI handler they would be empty."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from django.core.exceptions import RequestDataTooBig

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


def is_chunked(environ: WSGIEnvironment) -> bool:
    """Whether the body's end is told by its last chunk alone."""
    return (
        not environ.get("CONTENT_LENGTH") and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    )


class ChunkedBody:
    """The server's stream, to be read once and whole. Django reads no further than the Content-Length it is shown: the limit.

    Nothing is read before Django asks, so that a stranger without an API key cannot hold a thread with a slow body.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = self._left = limit
        self.readline = stream.readline  # asked for, and never used on a body of JSON

    def read(self, size: int = -1) -> bytes:
        """What is next of the body. Raises RequestDataTooBig where it goes on beyond the limit."""
        data = self._stream.read(size)
        self._left -= len(data)
        # A little more is read even so: a client whose body is not read to its end may never see why it was refused.
        if self._left <= 0 and self._stream.read(self._limit):
            raise RequestDataTooBig
        return data
