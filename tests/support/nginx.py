"""A real nginx with deploy/nginx.conf, in front of whatever a test puts behind it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from devstack.ports import HOST, free_port
from devstack.processes import Command, start
from tests.support.compose import ROOT
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

# Debian puts it where only root's PATH leads.
BINARY = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
needs_nginx = pytest.mark.skipif(BINARY is None, reason="nginx is not installed: apt-get install nginx")


@dataclass(frozen=True)
class Proxy:
    """Where it listens, and what it wrote down."""

    url: str
    folder: Path

    @property
    def access_log(self) -> str:
        return (self.folder / "access.log").read_text(encoding="utf-8")


@contextlib.contextmanager
def running_nginx(
    folder: Path, *, api: Sequence[str], streams: Sequence[str] = (), changes: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """A proxy of these addresses, for as long as the block runs. `changes`: words of the file that a test cannot wait for."""
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(_configuration(folder, port, api, streams or api, changes or {}), encoding="utf-8")
    # As root it would run its workers as somebody who may not enter a test's folder.
    user = "user root; " if os.geteuid() == 0 else ""
    argv = [
        str(BINARY),
        "-p",
        str(folder),
        "-c",
        str(file),
        "-e",
        str(folder / "error.log"),
        "-g",
        f"{user}daemon off;",
    ]
    running = start(Command("nginx", argv, dict(os.environ)), folder / "nginx.log")
    try:
        until(lambda: _listens(port) or running.has_ended)
        assert not running.has_ended, running.last_lines()
        yield Proxy(f"http://{HOST}:{port}", folder)
    finally:
        running.popen.terminate()
        running.popen.wait()


def _configuration(
    folder: Path, port: int, api: Sequence[str], streams: Sequence[str], changes: Mapping[str, str]
) -> str:
    """The file as it is deployed, but for addresses and folders. Debian's nginx is too old for `resolve`."""
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    text = text.replace(" /tmp/nginx", f" {folder}/nginx")
    balance = "max_fails=1 fail_timeout=2s;"
    replaced = {
        f"server api:8000 resolve {balance}": _servers(api),
        f"server streams:8001 resolve {balance}": _servers(streams),
        "listen 8080 default_server;": f"listen {HOST}:{port} default_server;",
        "/dev/stderr": str(folder / "error.log"),
        "/dev/stdout": str(folder / "access.log"),
        "worker_rlimit_nofile 40000;": "",
        "worker_connections 16384;": "worker_connections 512;",
        **changes,
    }
    for old, new in replaced.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def _servers(urls: Sequence[str]) -> str:
    return " ".join(f"server {urlsplit(url).netloc} max_fails=0;" for url in urls)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@dataclass
class Upstream:
    """An application that does what a test tells it, and remembers what it was asked."""

    url: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    connections: int = 0
    # Neither: 204. What else it does with a request that it has read.
    hangs_up: bool = False
    is_silent: bool = False


@contextlib.contextmanager
def upstream() -> Iterator[Upstream]:
    """An `Upstream` on a port of its own."""
    told = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            told.connections += 1
            super().setup()

        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            told.requests.append((self.command, {name.lower(): value for name, value in self.headers.items()}))
            if told.is_silent:
                self.rfile.read(1)  # until the other side gives up
            if told.hangs_up or told.is_silent:
                self.close_connection = True
                return
            self.send_response(204)
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A connection that was cut is what some tests are about."""

    server = Server((HOST, 0), Handler)
    told.url = f"http://{HOST}:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
