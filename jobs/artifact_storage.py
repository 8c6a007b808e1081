"""Where the bytes of artifacts are: settings.STORAGES["artifacts"]. Nothing here is called inside a transaction."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage, storages

if TYPE_CHECKING:
    from collections.abc import Iterator

ALIAS = "artifacts"


class ArtifactFolder(FileSystemStorage):
    """A folder whose files survive a power cut from the moment that `save` returns: their rows are not more durable than they."""

    def _save(self, name: str, content: Any) -> str:  # noqa: ANN401 - Django's signature
        saved: str = super()._save(name, content)  # type: ignore[misc] # a method that django-stubs leave out
        file = Path(self.path(saved))
        for path in (file, file.parent, file.parent.parent):
            with _opened(path) as descriptor:
                os.fsync(descriptor)
        return saved


def new_storage_name() -> str:
    """A name that no file ever had. Spread over 256 folders, which stay when files go; S3 has none and does not mind."""
    token = uuid.uuid4().hex
    return f"{token[:2]}/{token}"


def store(storage_name: str, content: IO[bytes]) -> None:
    """The bytes are in storage under that name. Raises what the storage raises; then any part of them may be."""
    content.seek(0)
    saved = storages[ALIAS].save(storage_name, File(content))
    if saved != storage_name:
        remove(saved)
        raise FileExistsError(f"The storage gave {storage_name} another name.")


def open_file(storage_name: str) -> File[bytes]:
    """The file, to be read from any place. Raises what the storage raises."""
    return storages[ALIAS].open(storage_name, "rb")


def remove(storage_name: str) -> None:
    """The file is not in storage, whether or not it was."""
    storages[ALIAS].delete(storage_name)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
