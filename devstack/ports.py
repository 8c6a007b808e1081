"""TCP ports of this machine."""

from __future__ import annotations

import secrets
import socket

from devstack.errors import LauncherError

HOST = "127.0.0.1"
# Below the range that Linux and macOS give to outgoing connections: none of those takes a port between our look and our use.
_FIRST, _LAST = 20_000, 32_000
_TRIES = 200


def free_port() -> int:
    """A port that nobody listens on, by chance, so that stacks started together do not meet."""
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        if is_free(port):
            return port
    raise LauncherError(f"No free TCP port was found between {_FIRST} and {_LAST}.")


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: the remains of closed connections (TIME_WAIT) are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def chosen_port(port: int) -> int:
    """The port the user asked for, 0 meaning any; taken or forbidden ones are refused before anything starts."""
    if port == 0:
        return free_port()
    if not is_free(port):
        raise LauncherError(
            f"Port {port} is taken or not ours to use: stop what listens there, or choose another with --port."
        )
    return port


def companion_port(port: int) -> int:
    """A port for the streams beside the API's: the same one at each start where possible, never the next stack's."""
    beside = port + 1_000
    return beside if beside < 2**16 and is_free(beside) else free_port()
