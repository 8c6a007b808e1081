"""The contestants: each on a new database of one PostgreSQL and an empty Valkey, which all of them use in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import venv
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import redis

from devstack.arguments import ROOT
from devstack.folder import Folder
from devstack.ports import HOST, free_port
from devstack.processes import Command
from devstack.services import answers
from devstack.stack import Stack

if TYPE_CHECKING:
    from devstack.console import Console
    from devstack.supervisor import Supervisor

PEERS = ROOT / "tests" / "bench" / "peers"
SEMEL_OPERATIONS = "tests.bench.operations.Nothing,tests.bench.operations.Call"


class Arena:
    """What all contestants share: one PostgreSQL, one Valkey, the slow server, the processes of each."""

    def __init__(self, supervisor: Supervisor, console: Console, database_url: str, redis_url: str) -> None:
        self.supervisor = supervisor
        self.console = console
        self.redis_url = redis_url
        self._server, _, _ = database_url.rpartition("/")
        self.call_port = free_port()
        slow = [sys.executable, str(PEERS / "slow_server.py"), str(self.call_port)]
        supervisor.start(Command("slow-server", slow, dict(os.environ)))

    def new_database(self, name: str) -> str:
        """Drop and create the database, empty Valkey, and return the database's URL."""
        with psycopg.connect(f"{self._server}/postgres", autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
            connection.execute("CHECKPOINT")
        redis.Redis.from_url(self.redis_url).flushall()
        return f"{self._server}/{name}"

    def pids(self, *names: str) -> list[int]:
        """Return the process ids of those processes that run now."""
        return [self.supervisor.running[name].identity.pid for name in names if name in self.supervisor.running]

    def end(self, *names: str) -> list[Command]:
        """Kill the processes and return their commands, to start them again."""
        return [self.supervisor.end(name, signal.SIGKILL) for name in names if name in self.supervisor.running]


class Contestant(ABC):
    """One system under test."""

    name: ClassVar[str]
    api: ClassVar[tuple[str, ...]]  # the names of its processes
    workers: ClassVar[tuple[str, ...]]
    finished_sql: ClassVar[str]

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.url = ""
        self.headers: dict[str, str] = {}
        self.database_url = arena.new_database(f"bench_{self.name}")
        self._stopped: list[Command] = []

    @abstractmethod
    def start(self) -> None:
        """Start every process and wait until all are ready."""

    def stop_workers(self) -> None:
        """End the workers, so that accepted jobs gather."""
        self._stopped = self.arena.end(*self.workers)

    def start_workers(self) -> None:
        """Start the workers that were ended."""
        for command in self._stopped:
            self.arena.supervisor.start(command)

    def stop(self) -> None:
        """End every process."""
        self.arena.end(*dict.fromkeys([*self.workers, *self.api]))

    def finished(self) -> int:
        """Return how many jobs are done."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(self.finished_sql).fetchone()
        return int(row[0]) if row else 0

    def _command(self, name: str, argv: list[str], env: Mapping[str, str]) -> None:
        values = {
            **os.environ,
            "BENCH_DATABASE_URL": self.database_url,
            "BENCH_REDIS_URL": self.arena.redis_url,
            "BENCH_CALL_PORT": str(self.arena.call_port),
            "PYTHONPATH": str(ROOT),
            **env,
        }
        self.arena.supervisor.start(Command(name, argv, values))


class Semel(Contestant):
    """The processes that `run.py serve` starts, with their default settings."""

    name = "semel"
    api = ("api", "streams", "beat", "provider")
    workers = ("worker", "worker-io", "maintenance")
    finished_sql = "SELECT count(*) FROM job WHERE finished_at IS NOT NULL"

    def start(self) -> None:
        folder = Folder(self.arena.supervisor.scratch / f"semel-{time.monotonic_ns()}")
        overrides = {"OPERATIONS": SEMEL_OPERATIONS, "BENCH_CALL_PORT": str(self.arena.call_port)}
        self._stack = Stack(self.arena.supervisor, folder, self.arena.console, port=free_port(), overrides=overrides)
        self._stack.start((self.database_url, self.arena.redis_url))
        self.url = f"{self._stack.base_url}/v1/jobs"
        self.headers = {"Authorization": f"Bearer {self._stack.api_key}"}

    def state(self) -> dict[str, Any]:
        """Return what `state.json` would hold."""
        return self._stack.state()


class Naive(Contestant):
    """Django REST framework and Celery, without guarantees (peers/naive.py), on the packages of this environment."""

    name = "naive"
    api = ("naive-api",)
    workers = ("naive-worker",)
    finished_sql = "SELECT count(*) FROM job WHERE state = 'done'"

    def start(self) -> None:
        env = {"DJANGO_SETTINGS_MODULE": "tests.bench.peers.naive"}
        module = "tests.bench.peers.naive"
        self._command("naive-migrate", [sys.executable, "-c", f"import {module} as naive; naive.migrate()"], env)
        self.arena.supervisor.running.pop("naive-migrate").popen.wait()
        port = free_port()
        server = ["--interface", "wsgi", "--workers", "2", "--blocking-threads", "2", "--no-ws"]
        options = [*server, "--host", HOST, "--port", str(port), "--log-level", "warning"]
        self._command("naive-api", [sys.executable, "-m", "granian", *options, f"{module}:application"], env)
        celery = ["-m", "celery", "-A", f"{module}:app", "worker", "-c", "2", "-l", "WARNING", "--without-mingle"]
        self._command("naive-worker", [sys.executable, *celery, "--without-gossip"], env)
        self.url = f"http://{HOST}:{port}/v1/jobs"
        _wait_until_open(port)


class Dbos(Contestant):
    """FastAPI and DBOS Transact (peers/dbos_app.py) in one process, in an environment of its own."""

    name = "dbos"
    api = ("dbos",)
    workers = ()
    finished_sql = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"

    def start(self) -> None:
        python = dbos_python()
        port = free_port()
        options = ["--host", HOST, "--port", str(port), "--log-level", "warning", "--app-dir", str(PEERS)]
        self._command("dbos", [str(python), "-m", "uvicorn", *options, "dbos_app:app"], {})
        self.url = f"http://{HOST}:{port}/v1/jobs"
        _wait_until_open(port)


def dbos_python() -> Path:
    """Return the interpreter of the peer's environment, made at the first use from peers/dbos-requirements.txt."""
    folder = ROOT / ".run" / "bench-dbos"
    python = folder / "bin" / "python"
    stamp = folder / "complete"
    if not stamp.exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-q", "-r", str(PEERS / "dbos-requirements.txt")]
        subprocess.run(install, check=True)
        stamp.touch()
    return python


def _wait_until_open(port: int, seconds: float = 60.0) -> None:
    is_open = answers(port, "/v1/jobs")
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        if is_open() or _accepts(port):
            return
        time.sleep(0.1)
    raise TimeoutError(f"Nothing listens on port {port}.")


def _accepts(port: int) -> bool:
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
