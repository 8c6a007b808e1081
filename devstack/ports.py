"""TCP ports of this machine."""

import secrets
import socket

from devstack.console import LauncherError

HOST = "127.0.0.1"
# Below the ports of outgoing connections on Linux (from 32,768) and macOS, also 1,000 above (companion_port).
_FIRST, _LAST = 20_000, 31_700
_TRIES = 200


def free_port() -> int:
    """Return a random free port: random, so that stacks that start together do not collide."""
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        if is_free(port):
            return port
    raise LauncherError(f"No free TCP port was found between {_FIRST} and {_LAST}.")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections in TIME_WAIT do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def chosen_port(port: int) -> int:
    """Return the port that the user chose, 0 meaning any. Raises LauncherError if it is taken or forbidden."""
    if port == 0:
        return free_port()
    if not is_free(port):
        raise LauncherError(
            f"Port {port} is taken or not allowed: stop what listens there, or choose another with --port."
        )
    return port


def companion_port(port: int) -> int:
    """Return a port for the streams process: 1,000 above the API's where possible, so that it is the same at each start."""
    beside = port + 1_000
    return beside if beside < 2**16 and is_free(beside) else free_port()
