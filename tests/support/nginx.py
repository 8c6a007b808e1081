"""Run a real nginx with deploy/nginx.conf in front of the servers of a test."""

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
    """The address of a running nginx, and its folder with the logs."""

    url: str
    folder: Path

    @property
    def access_log(self) -> str:
        return (self.folder / "access.log").read_text(encoding="utf-8")


@contextlib.contextmanager
def running_nginx(
    folder: Path, *, api: Sequence[str], streams: Sequence[str] = (), changes: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Run nginx for these addresses during the block. `changes` replaces texts of the file, for example long time-outs."""
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(_configuration(folder, port, api, streams or api, changes or {}), encoding="utf-8")
    # If nginx is started as root, its workers run as another user, who cannot read the test's folder.
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
    """Return the deployed file with other addresses and folders. Debian's nginx does not know `resolve`."""
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    text = text.replace(" /tmp/nginx", f" {folder}/nginx")
    balance = "max_fails=1 fail_timeout=2s;"
    replaced = {
        f"server api:8000 resolve {balance}": _servers(api),
        f"server streams:8001 resolve {balance}": _servers(streams),
        "listen 8080 default_server backlog=16384;": f"listen {HOST}:{port} default_server backlog=16384;",
        "/dev/stderr": str(folder / "error.log"),
        "/dev/stdout": str(folder / "access.log"),
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 32768;": "worker_connections 512;",
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
    """A server behind the proxy. It behaves as its fields say and records the requests."""

    url: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    connections: int = 0
    # How it treats a request that it has read. If both are false it answers 204.
    hangs_up: bool = False
    is_silent: bool = False


@contextlib.contextmanager
def upstream() -> Iterator[Upstream]:
    """Run an `Upstream` on its own port during the block."""
    state = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            state.connections += 1
            super().setup()

        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            state.requests.append((self.command, {name.lower(): value for name, value in self.headers.items()}))
            if state.is_silent:
                self.rfile.read(1)  # until the proxy closes the connection
            if state.hangs_up or state.is_silent:
                self.close_connection = True
                return
            self.send_response(204)
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore closed connections: some tests cause them."""

    server = Server((HOST, 0), Handler)
    state.url = f"http://{HOST}:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
