"""Artifacts in an S3-compatible bucket: install requirements-s3.txt and set ARTIFACTS_STORAGE to this class."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from django.core.files import File
from storages.backends.s3 import S3Storage

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bytes per request: many enough to make the round trips cheap, few enough for a process's memory.
_PART_BYTES = 1024 * 1024


class ArtifactBucket(S3Storage):  # type: ignore[misc] # django-storages ships no types
    """Reads a file part by part; the base class fetches it whole first."""

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Raises FileNotFoundError where the file does not exist."""
        opened = super()._open(name, mode)
        return File(io.BufferedReader(_ObjectReader(opened.obj), _PART_BYTES), name)


class _ObjectReader(io.RawIOBase):
    """Fetches the bytes of one object as they are read. A read fails if the object was replaced since."""

    def __init__(self, opened: Any) -> None:  # noqa: ANN401 - boto3 ships no types
        self._object = opened
        self._size: int = opened.content_length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill as much of the buffer as one request returns."""
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if self._at >= end:
            return 0
        request = {"Range": f"bytes={self._at}-{end - 1}", "IfMatch": self._object.e_tag}
        part: bytes = self._object.get(**request)["Body"].read()
        view[: len(part)] = part
        self._at += len(part)
        return len(part)
