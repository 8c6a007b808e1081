"""Artifacts in an S3-compatible bucket, for those who have requirements-s3.txt and set ARTIFACTS_STORAGE to this class."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from django.core.files import File
from storages.backends.s3 import S3Storage

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Asked for at once: large enough that the way to the bucket costs little, small beside a process.
_PART_BYTES = 1024 * 1024


class ArtifactBucket(S3Storage):  # type: ignore[misc] # django-storages ships no types
    """A file is read part by part, where django-storages' own would first fetch it whole."""

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """The file, which is there; FileNotFoundError where it is not."""
        known = super()._open(name, mode)
        return File(io.BufferedReader(_Parts(known.obj), _PART_BYTES), name)


class _Parts(io.RawIOBase):
    """The bytes of one object, each fetched when it is read; of this version of it, or not at all."""

    def __init__(self, known: Any) -> None:  # noqa: ANN401 - boto3 ships no types
        self._object = known
        self._size: int = known.content_length
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to the place; nothing is fetched."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """One request, for as much as fits."""
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._size)
        if self._at >= end:
            return 0
        asked = {"Range": f"bytes={self._at}-{end - 1}", "IfMatch": self._object.e_tag}
        part: bytes = self._object.get(**asked)["Body"].read()
        view[: len(part)] = part
        self._at += len(part)
        return len(part)
