"""What all contestants share: one PostgreSQL, one Valkey and one slow service, with the same settings for all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql

from devstack.broker import is_ready
from devstack.environment import base_environment
from devstack.folder import Folder
from devstack.ports import free_port
from devstack.postgres import maintenance_url
from devstack.processes import Command
from devstack.services import answers
from devstack.stack import embed_servers
from tests.bench.cpu import tree_cpu_seconds

if TYPE_CHECKING:
    from devstack.processes import Running
    from devstack.supervisor import Supervisor

SCRAM_ITERATIONS_SINCE = 160_000
# A worker first finishes the job that it runs.
END_SECONDS = 10.0
# Settings on which the durability of a commit depends. A benchmark with others would compare nothing.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class Addresses:
    """Where a contestant finds its database, its broker and the service that it calls."""

    database: str
    broker: str
    calls: str


class Host:
    """The servers, and what they report."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Start the servers as `run.py serve` does, and check that PostgreSQL is durable."""
        self.supervisor = supervisor
        self.env = base_environment(supervisor.tag)
        del self.env["DJANGO_SETTINGS_MODULE"]  # Semel's; its stack sets it itself
        folder = Folder(supervisor.scratch / "servers")
        self._url, self.redis_url = embed_servers(supervisor, folder, self.env)
        self._admin = psycopg.connect(maintenance_url(self._url), autocommit=True)
        self._ours = {self._admin.info.backend_pid}
        self._databases = 0
        self._make_logins_cheap()
        for name, expected in DURABLE.items():
            [value] = self._admin.execute("SELECT current_setting(%s)", [name]).fetchone() or [""]
            assert value == expected, f"PostgreSQL runs with {name}={value}: commits would not be durable."
        self.call_url = self._start_slow_service()

    def fresh_database(self, name: str) -> str:
        """Create an empty database, empty the broker, and return the database's URL."""
        self._databases += 1
        database = f"bench_{name}_{self._databases}"
        self._admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        with closing(redis.Redis.from_url(self.redis_url)) as broker:
            broker.flushall()
        return f"{self._url.rpartition('/')[0]}/{database}"

    def addresses(self, database_url: str, delay_ms: float) -> Addresses:
        """Return the addresses that a contestant gets; with a delay, those of proxies that it then owns."""
        addresses = Addresses(database_url, self.redis_url, self.call_url)
        return self._far(addresses, delay_ms) if delay_ms else addresses

    def drop_database(self, url: str) -> None:
        """Drop the database, also if connections to it are left."""
        name = sql.Identifier(url.rpartition("/")[2])
        self._admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def connect(self, url: str) -> psycopg.Connection[Any]:
        """Return a connection whose CPU time is not counted."""
        connection = psycopg.connect(url, autocommit=True)
        self._ours.add(connection.info.backend_pid)
        return connection

    def checkpoint(self) -> None:
        """Write what is dirty now, so that the next measurement does not pay for the last one."""
        self._admin.execute("CHECKPOINT")

    def postgres_cpu_seconds(self) -> float:
        """Return the CPU time of the whole server so far, except for our own connections."""
        return tree_cpu_seconds([self.supervisor.running["postgres"].identity.pid], without=self._ours)

    def broker_cpu_seconds(self) -> float:
        """Return the CPU time of Valkey so far."""
        return tree_cpu_seconds([self.supervisor.running["broker"].identity.pid])

    def calls(self) -> dict[str, int]:
        """Return the slow service's counts: answered, held, most_held."""
        with urllib.request.urlopen(self.call_url) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts

    def _far(self, near: Addresses, delay_ms: float) -> Addresses:
        pairs, urls = [], []
        for url in (near.database, near.broker):
            target, listen = urlsplit(url).port, free_port()
            pairs.append(f"{listen}:{target}")
            urls.append(url.replace(f":{target}/", f":{listen}/"))
        self.start_python("far-proxy", "-m", "tests.bench.far_proxy", str(delay_ms), *pairs)
        far = Addresses(urls[0], urls[1], near.calls)
        self.supervisor.wait_for({"far-proxy": lambda: is_ready(far.broker)})
        return far

    def _make_logins_cheap(self) -> None:
        """Hash the password once instead of 4,096 times: a service that connects for each job would mostly measure that."""
        if self._admin.info.server_version < SCRAM_ITERATIONS_SINCE:
            return
        info = self._admin.info
        self._admin.execute("SET scram_iterations = 1")
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
        self._admin.execute(statement.format(sql.Identifier(info.user), sql.Literal(info.password)))

    def _start_slow_service(self) -> str:
        port = free_port()
        self.start_python("slow-service", "-m", "tests.bench.slow_service", str(port))
        self.supervisor.wait_for({"slow-service": answers(port, "/")})
        return f"http://127.0.0.1:{port}/"

    def start_python(
        self, name: str, *arguments: str, python: str = sys.executable, env: Mapping[str, str] | None = None
    ) -> None:
        """Start a process of the benchmark."""
        self.supervisor.start(self._command(name, python, arguments, env))

    def run_python(self, name: str, *arguments: str, python: str, env: Mapping[str, str]) -> None:
        """Run a process of the benchmark to its end. Raises LauncherError if it fails."""
        self.supervisor.run(self._command(name, python, arguments, env))

    def _command(
        self, name: str, python: str, arguments: tuple[str, ...], env: Mapping[str, str] | None = None
    ) -> Command:
        return Command(name, [python, *arguments], dict(env or self.env))

    def end(self, name: str) -> None:
        """Stop a process and its children: a clean end first, SIGKILL after the grace."""
        one = self.supervisor.running.pop(name)
        one.identity.send(one.command.stop_signal)
        with suppress(subprocess.TimeoutExpired):
            one.popen.wait(END_SECONDS)
        _kill(one)

    def kill(self, names: Iterable[str]) -> None:
        """Kill processes and their children: what they leave is dropped with their database."""
        for name in names:
            _kill(self.supervisor.running.pop(name))


def _kill(one: Running) -> None:
    with suppress(ProcessLookupError):  # the whole group has ended
        os.killpg(one.identity.pid, signal.SIGKILL)
    one.popen.wait()
