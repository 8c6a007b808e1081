"""A Valkey for one test, which can be killed, emptied, filled, or made a replica."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import redis

from devstack.binaries import broker_binary
from devstack.broker import CONFIGURATION, end_with_parent, is_ready
from devstack.ports import HOST, free_port
from devstack.processes import Command, Running, start
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "valkey-of-a-test"
# An empty server uses more memory than this, so it refuses every write.
_FULL_BYTES = 1


class Valkey:
    """A server with the configuration of `run.py serve`, in `folder`, on a port that stays the same after a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://:{PASSWORD}@{HOST}:{self._port}/0"
        self._running = self._start()

    def client(self) -> redis.Redis:
        """Return a new client for this server."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    @contextlib.contextmanager
    def killed(self, *, with_data: bool) -> Iterator[None]:
        """Kill the server. Start it again when the block ends, with its append-only file or empty."""
        self.kill()
        try:
            yield
        finally:
            if not with_data:
                shutil.rmtree(self._folder / "appendonlydir")
            self._running = self._start()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Make the server refuse every write with OOM until the block ends."""
        self._set_memory(_FULL_BYTES)
        try:
            yield
        finally:
            self._set_memory(0)

    @contextlib.contextmanager
    def demoted(self) -> Iterator[None]:
        """Make the server a replica of an address that does not answer, until the block ends.

        It refuses writes and disconnects blocked clients.
        """
        with self.client() as client:
            client.replicaof(HOST, free_port())
            try:
                yield
            finally:
                client.replicaof("NO", "ONE")

    def kill(self) -> None:
        """Kill the server for the rest of the test."""
        self._running.popen.kill()
        self._running.popen.wait()

    def refused(self, command: str) -> int:
        """Return how many calls of the command were refused since the server started."""
        with self.client() as client:
            return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("rejected_calls", 0))

    def _set_memory(self, number_of_bytes: int) -> None:
        with self.client() as client:
            client.config_set("maxmemory", number_of_bytes)

    def _start(self) -> Running:
        self._folder.mkdir(exist_ok=True)
        file = self._folder / "broker.conf"
        file.write_text(
            CONFIGURATION.format(host=HOST, port=self._port, folder=self._folder, password=PASSWORD), encoding="utf-8"
        )
        options: dict[str, Any] = {"preexec_fn": end_with_parent}
        command = Command("valkey", [str(broker_binary()), str(file)], dict(os.environ), options=options)
        running = start(command, self._folder / "valkey.log")
        until(lambda: is_ready(self.url), seconds=60)
        return running


@contextlib.contextmanager
def running_valkey(folder: Path) -> Iterator[Valkey]:
    """Run a server during the block."""
    valkey = Valkey(folder)
    try:
        yield valkey
    finally:
        valkey.kill()
