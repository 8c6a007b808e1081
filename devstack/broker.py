"""An embedded Valkey: its own folder, port and password."""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from devstack.binaries import broker_binary
from devstack.ports import HOST, free_port
from devstack.processes import Command

if TYPE_CHECKING:
    from devstack.supervisor import Supervisor

CONFIGURATION = """\
bind {host}
port {port}
dir {folder}
requirepass {password}
appendonly yes
save ""
maxmemory-policy noeviction
"""


def start_broker(supervisor: Supervisor, folder: Path, password: str, env: dict[str, str]) -> str:
    """Start Valkey on this folder, created if it is missing, and return its URL."""
    folder.mkdir(mode=0o700, exist_ok=True)
    port = free_port()
    # In a file, because other users can read a command line.
    file = folder / "broker.conf"
    file.touch(mode=0o600)
    quoted = '"' + str(folder).replace("\\", "\\\\").replace('"', '\\"') + '"'
    file.write_text(CONFIGURATION.format(host=HOST, port=port, folder=quoted, password=password), encoding="utf-8")
    # Valkey overwrites its environment, and with it the stack's tag: a launcher that is killed before it announces this
    # process would leave it behind.
    options = {"preexec_fn": end_with_parent}
    supervisor.start(Command("broker", [str(broker_binary()), str(file)], env, options=options))
    return f"redis://:{password}@{HOST}:{port}/0"


def is_ready(url: str) -> bool:
    """Return True once it answers, with its data loaded."""
    try:
        with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def end_with_parent() -> None:
    """Make the kernel end this process with its parent; only Linux can, elsewhere the cleanup process does it."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
