"""Files as responses: sent in chunks, limited in number, whole or one range (RFC 9110 §14)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings

from jobs.errors import RangeNotSatisfiable, TooManyDownloads

if TYPE_CHECKING:
    from django.core.files import File

log = structlog.get_logger(__name__)

_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII | re.IGNORECASE)
# More digits than the size of any file has.
_DIGITS_MAX = 19

# Large enough that Python's overhead per chunk does not matter, and small compared with the memory of a process.
_CHUNK_BYTES = 256 * 1024


class _DownloadLimit:
    """Limit the files that this process sends at once (DOWNLOADS_MAX)."""

    def __init__(self) -> None:
        self._taken = 0
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Count one download. Raises TooManyDownloads."""
        with self._lock:
            if self._taken >= settings.DOWNLOADS_MAX:
                raise TooManyDownloads
            self._taken += 1

    def release(self) -> None:
        with self._lock:
            self._taken -= 1


_downloads = _DownloadLimit()


class FileChunks:
    """Iterate over bytes `start` to `end` of a file. The file is closed at the end, by `close`, or on garbage collection."""

    def __init__(self, file: File[bytes], start: int, end: int) -> None:
        """Take ownership of the file. Raises TooManyDownloads."""
        self._file = file
        self._left = end - start
        self._is_counted = False
        try:
            _downloads.acquire()
            self._is_counted = True
            file.seek(start)
        except Exception:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next chunk. Raise if the file ends too soon: the connection is cut, because its length was announced."""
        if not self._left:
            self.close()
            raise StopIteration
        try:
            chunk = self._read()
        except Exception:
            log.exception("artifact.cut", left=self._left)
            self.close()
            raise
        self._left -= len(chunk)
        return chunk

    def _read(self) -> bytes:
        chunk: bytes = self._file.read(min(_CHUNK_BYTES, self._left))
        if not chunk:
            raise EOFError(f"The file ends {self._left} bytes too soon.")
        return chunk

    def close(self) -> None:
        """Close the file and free its place. May be called twice."""
        self._file.close()
        if self._is_counted:
            self._is_counted = False
            _downloads.release()

    def __del__(self) -> None:
        self.close()


class AsyncFileChunks:
    """FileChunks for ASGI: each chunk is read in a thread, so that the event loop never waits for a disk."""

    def __init__(self, chunks: FileChunks) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncFileChunks:
        return self

    async def __anext__(self) -> bytes:
        chunk: Any = await asyncio.to_thread(next, self._chunks, None)
        if chunk is None:
            raise StopAsyncIteration
        return bytes(chunk)

    def close(self) -> None:
        self._chunks.close()


@dataclass(frozen=True)
class Part:
    """Bytes `start` (inclusive) to `end` (exclusive) of a file of `size` bytes."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        """Return the value of Content-Range, which names the last byte."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def requested_part(headers: Mapping[str, str], *, tag: str, size: int) -> Part | None:
    """Return the requested part, or None for the whole file. Raises RangeNotSatisfiable.

    The whole is sent if If-Range names another version (RFC 9110 §13.1.5: strong comparison; a date matches none), if the unit
    is unknown or the range is malformed, and if several ranges are requested, which a client must accept.
    """
    if_range = headers.get("If-Range")
    found = _RANGE.fullmatch(headers.get("Range", "").strip())
    if found is None or (if_range is not None and if_range.strip() != tag):
        return None
    first, last = found.groups()
    if max(len(first), len(last)) > _DIGITS_MAX:
        raise RangeNotSatisfiable(size)
    if first:
        return _from(int(first), int(last) if last else None, size)
    return _suffix(int(last), size) if last else None


def _from(first: int, last: int | None, size: int) -> Part | None:
    if last is not None and last < first:
        return None
    if first >= size:
        raise RangeNotSatisfiable(size)
    return Part(first, size if last is None else min(last + 1, size), size)


def _suffix(length: int, size: int) -> Part | None:
    """Return the last bytes. Content-Range cannot name a part of an empty file."""
    if length == 0:
        raise RangeNotSatisfiable(size)
    return Part(max(0, size - length), size, size) if size else None
