"""The bytes of a file on their way: a piece at a time, never more in memory; and how many files may be on theirs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings

from jobs.errors import TooManyDownloads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.files import File

log = structlog.get_logger(__name__)

# Large enough that the way through Python costs little beside the copying, small beside a process.
_PIECE_BYTES = 256 * 1024


class _Places:
    """So many files of this process may be on their way."""

    def __init__(self) -> None:
        self._taken = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """One place is taken, until it is given back. Raises TooManyDownloads."""
        with self._lock:
            if self._taken >= settings.DOWNLOADS_MAX:
                raise TooManyDownloads
            self._taken += 1

    def give_back(self) -> None:
        with self._lock:
            self._taken -= 1


_places = _Places()


class Sending:
    """Bytes `start` to `end` of the file, in pieces. It is closed at their end, by `close`, or when nobody holds it any more."""

    def __init__(self, file: File[bytes], start: int, end: int) -> None:
        """The file is this one's from now on. Raises TooManyDownloads."""
        self._file = file
        self._left = end - start
        self._has_place = False
        try:
            _places.take()
            self._has_place = True
            file.seek(start)
        except Exception:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next piece. Raises where the file ends too soon: the connection is cut, since the length was promised."""
        if not self._left:
            self.close()
            raise StopIteration
        try:
            piece = self._read()
        except Exception:
            log.exception("artifact.cut", left=self._left)
            self.close()
            raise
        self._left -= len(piece)
        return piece

    def _read(self) -> bytes:
        piece: bytes = self._file.read(min(_PIECE_BYTES, self._left))
        if not piece:
            raise EOFError(f"The file ends {self._left} bytes too soon.")
        return piece

    def close(self) -> None:
        """The file is closed and its place free. Twice is once."""
        self._file.close()
        if self._has_place:
            self._has_place = False
            _places.give_back()

    def __del__(self) -> None:
        self.close()


class AsyncSending:
    """The same for ASGI: each piece is read in a thread, so that the event loop waits for no disk."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def __aiter__(self) -> AsyncSending:
        return self

    async def __anext__(self) -> bytes:
        """The next piece."""
        piece: Any = await asyncio.to_thread(next, self._sending, None)
        if piece is None:
            raise StopAsyncIteration
        return bytes(piece)

    def close(self) -> None:
        """See Sending.close."""
        self._sending.close()
