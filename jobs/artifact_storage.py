"""Store, open and remove the files of artifacts in settings.STORAGES["artifacts"]. Never call these inside a transaction."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage, storages

ALIAS = "artifacts"


class ArtifactFolder(FileSystemStorage):
    """A folder whose files survive a power cut once `save` returns, as their rows do once they are committed."""

    def _save(self, name: str, content: Any) -> str:  # noqa: ANN401 - Django's signature
        saved: str = super()._save(name, content)  # type: ignore[misc] # a method that django-stubs leave out
        file = Path(self.path(saved))
        for path in (file, file.parent, file.parent.parent):
            with _opened(path) as descriptor:
                os.fsync(descriptor)
        return saved


def new_storage_name() -> str:
    """Return an unused name. Names spread over 256 folders, which are never removed."""
    token = uuid.uuid4().hex
    return f"{token[:2]}/{token}"


def store(storage_name: str, content: IO[bytes]) -> None:
    """Store the bytes under that name. If the storage raises, any part of them may be stored."""
    content.seek(0)
    saved = storages[ALIAS].save(storage_name, File(content))
    if saved != storage_name:
        remove(saved)
        raise FileExistsError(f"The storage gave {storage_name} another name.")


def open_file(storage_name: str) -> File[bytes]:
    """Open the file for reading at any position. Raises what the storage raises."""
    return storages[ALIAS].open(storage_name, "rb")


def remove(storage_name: str) -> None:
    """Remove the file if it exists."""
    storages[ALIAS].delete(storage_name)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
