"""The data folder of one stack: databases, keys, logs and state."""

import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Any

from devstack.console import LauncherError

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
    """A folder that this stack alone uses, created if it is missing. Other users can traverse it but not list it."""

    def __init__(self, path: Path) -> None:
        """Lock the folder. Raises LauncherError if another stack uses it."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            # As root, PostgreSQL runs as `nobody`, which must reach its folder inside this one.
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            (path / "logs").mkdir(mode=0o700, exist_ok=True)
            # The cleanup process inherits it, and holds it until the last process has ended.
            self.lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LauncherError(f"The data folder {path} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LauncherError(
                f"The data folder {path} is in use by another stack: stop that one, or choose another folder with --data."
            ) from error
        self.path = path
        self.logs = path / "logs"
        self.state_file = path / STATE
        self.state_file.unlink(missing_ok=True)  # may be left from a power cut

    def secrets(self) -> dict[str, str]:
        """Return the stack's keys and passwords, generated once: a restarted stack must read its own data."""
        file = self.path / "secrets.json"
        known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        missing = {name: secrets.token_urlsafe(48) for name in _SECRETS if name not in known}
        if missing:
            known |= missing
            write_private(file, known)
        return known

    def add_secrets(self, **values: str) -> None:
        write_private(self.path / "secrets.json", self.secrets() | values)

    def write_state(self, state: dict[str, Any]) -> None:
        """Write ``state.json``, which says how to reach the running stack."""
        write_private(self.state_file, state)


def read_state(path: Path) -> dict[str, Any]:
    """Return the ``state.json`` of the stack that runs on this folder. Raises LauncherError if none runs."""
    try:
        with (path / "lock").open() as lock:
            # Shared, so that a second reader is not taken for a stack.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # a stack holds the lock
    except OSError:
        raise _no_stack(path) from None
    else:
        raise _no_stack(path)
    try:
        state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LauncherError(f"The stack on {path} is starting or stopping: try again in a few seconds.") from None
    except PermissionError:
        raise LauncherError(f"{path / STATE} belongs to another user.") from None
    return state


def _no_stack(path: Path) -> LauncherError:
    return LauncherError(
        f"No stack runs on {path}: start one with `python3 run.py serve`, or name its folder with --data."
    )


def write_private(file: Path, content: object) -> None:
    """Write the content as JSON that only the owner can read. Readers see the old content or the new, never a part."""
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(content, stream, indent=2)
        stream.write("\n")
    unfinished.replace(file)
