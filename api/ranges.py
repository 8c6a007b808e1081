"""One range of bytes (RFC 9110 §14): what part of a file a request asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.errors import RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import Mapping

_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII | re.IGNORECASE)
# Beyond any file; a longer number could not even be read.
_DIGITS_MAX = 19


@dataclass(frozen=True)
class Part:
    """Bytes `start` to `end`, the latter exclusive, of a file of `size`."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        """As the header has it: the last byte inclusive."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def wanted_part(headers: Mapping[str, str], *, tag: str, size: int) -> Part | None:
    """The part that is asked for; None: the whole. Raises RangeNotSatisfiable.

    The whole where If-Range names another version (RFC 9110 §13.1.5: compared strongly, and a date names none), where
    the unit is not ours or the range makes no sense, and where several are asked for: a client must take that anyway.
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
    """The last bytes. All of an empty file is no part that Content-Range could name."""
    if length == 0:
        raise RangeNotSatisfiable(size)
    return Part(max(0, size - length), size, size) if size else None
