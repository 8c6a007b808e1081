"""The data folder: one stack's databases, keys, logs and state."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from devstack.errors import LauncherError

if TYPE_CHECKING:
    from pathlib import Path

STATE = "state.json"
_SECRETS = (
    "secret_key",
    "fingerprint_key",
    "database_password",
    "broker_password",
    "provider_key",
    "webhook_secret",
    "metrics_token",
    "admin_password",
)


class Folder:
    """A folder that this stack alone uses. Made if missing; other users may pass through it and not look in."""

    def __init__(self, path: Path) -> None:
        """Whoever has the folder already keeps it: LauncherError."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            # As root, PostgreSQL runs as `nobody`, who must reach its own folder in here.
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            (path / "logs").mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LauncherError(f"The data folder {path} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LauncherError(
                f"The data folder {path} is in use by another stack: stop that one, or choose another with --data."
            ) from error
        self.path = path
        self.logs = path / "logs"
        self.state_file = path / STATE
        self.state_file.unlink(missing_ok=True)  # left by a power cut: the lock was free

    @property
    def lock(self) -> int:
        """The lock's file descriptor: the guardian holds it too, until the last process has ended."""
        return self._lock

    def secrets(self) -> dict[str, str]:
        """The stack's keys and passwords: made once, so that a restarted stack reads its own data."""
        file = self.path / "secrets.json"
        known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        missing = {name: secrets.token_urlsafe(48) for name in _SECRETS if name not in known}
        if missing:
            known |= missing
            write_private(file, known)
        return known

    def remember(self, **values: str) -> None:
        """These values are among the secrets from now on."""
        write_private(self.path / "secrets.json", self.secrets() | values)

    def write_state(self, state: dict[str, Any]) -> None:
        """``state.json`` says how to reach the running stack; readers never see half of it."""
        write_private(self.state_file, state)


def read_state(path: Path) -> dict[str, Any]:
    """What the stack that runs on this folder says of itself; LauncherError if none runs."""
    try:
        with (path / "lock").open() as lock:
            # Shared: two readers do not take each other for a stack.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # someone runs
    except OSError:
        raise _nothing_runs(path) from None
    else:
        raise _nothing_runs(path)
    try:
        state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LauncherError(
            f"The stack on {path} is starting or stopping: try again in a few seconds."
        ) from None
    except PermissionError:
        raise LauncherError(f"{path / STATE} belongs to another user.") from None
    return state


def _nothing_runs(path: Path) -> LauncherError:
    return LauncherError(
        f"No stack runs on {path}: start one with `python3 run.py serve`, or name its folder with --data."
    )


def write_private(file: Path, content: object) -> None:
    """The file has this content, whole, and only its owner may read it."""
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(content, stream, indent=2)
        stream.write("\n")
    unfinished.replace(file)
