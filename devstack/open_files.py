"""The limit of open files: the processes that serve thousands of connections inherit it from the launcher."""

import contextlib
import resource
from collections.abc import Mapping

from devstack.console import LauncherError
from devstack.services import CONNECTIONS

# A process has other files open too; the same as in foundation/open_files.py.
SPARE_FILES = 256


def fitting_connections(env: Mapping[str, str]) -> dict[str, str]:
    """Raise this process's limit of open files, and return how many connections each kind of process may have.

    That is what `env` says, or the default, or fewer where the system allows no more. Raises LauncherError if it allows fewer
    than `env` says.
    """
    return {name: str(_fitting(name, int(default), env.get(name))) for name, default in CONNECTIONS.items()}


def _fitting(name: str, default: int, given: str | None) -> int:
    wanted = int(given or default)
    allowed = _raise_limit(wanted + SPARE_FILES) - SPARE_FILES
    if allowed >= wanted:
        return wanted
    if given or allowed < 1:
        raise LauncherError(
            f"{name} ({wanted}) needs {wanted + SPARE_FILES} open files, and this system allows {allowed + SPARE_FILES}: "
            "raise the limit (ulimit -Hn), or set a lower number."
        )
    return allowed


def _raise_limit(needed: int) -> int:
    """Return the limit of open files after raising it to `needed`, or as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    target = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    # macOS refuses more than kern.maxfilesperproc, also where the hard limit is unlimited.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return soft
