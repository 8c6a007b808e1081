"""A durable PostgreSQL for one test, which can be killed, stopped or frozen, and whose sessions can be ended."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import psycopg

from devstack import postgres, services
from devstack.environment import base_environment
from devstack.processes import Command
from devstack.stopping import Interrupts
from devstack.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "postgres-of-a-test"
# On a busy machine a recovery, or a shutdown with its checkpoint, takes seconds.
PATIENCE_SECONDS = 60.0


class Postgres:
    """A running server in `folder` with Semel's schema. Its port stays the same after a restart."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self._supervisor = supervisor
        self._folder = folder
        env = base_environment(supervisor.tag)
        self.url = postgres.start_postgres(supervisor, folder / "postgres", PASSWORD, env, is_durable=True)
        self._wait()
        self._env = {**env, "DATABASE_URL": self.url}
        supervisor.run(services.migrate(self._env))

    def new_api_key(self) -> str:
        """Create a tenant if it is missing, and return a new API key in test mode."""
        file = self._folder / "seed.json"
        argv = [sys.executable, "-m", "devstack.seed", str(file)]
        env = {**self._env, "SEMEL_PROCESS": "manage", "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        self._supervisor.run(Command("seed", argv, env))
        return json.loads(file.read_text(encoding="utf-8"))["api_key"]

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Kill every process of the server. Start the server again when the block ends."""
        processes = self._all(signal.SIGSTOP)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._supervisor.running["postgres"].popen.wait()
        psutil.wait_procs(processes, PATIENCE_SECONDS)
        try:
            yield
        finally:
            self._start_again()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Shut the server down. Start it again when the block ends."""
        running = self._supervisor.running["postgres"]
        running.identity.send(signal.SIGINT)
        running.popen.wait(PATIENCE_SECONDS)
        try:
            yield
        finally:
            self._start_again()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of the server with SIGSTOP until the block ends. The kernel still accepts connections and bytes."""
        processes = self._all(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def end_sessions(self) -> int:
        """End every other session of Semel's database, and return how many there were."""
        return self._count("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE", "TRUE")

    def idle_in_transaction(self) -> int:
        """Return the number of sessions that are idle in a transaction."""
        return self._count("SELECT count(*) FROM pg_stat_activity WHERE", "state LIKE 'idle in transaction%'")

    def _count(self, select: str, condition: str) -> int:
        others = "datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        with psycopg.connect(self.url, autocommit=True) as session:
            [count] = session.execute(f"{select} {others} AND {condition}").fetchone() or [0]
        return int(count)

    def _all(self, number: signal.Signals) -> list[psutil.Process]:
        """Send the signal to every process of the server and return them.

        The postmaster gets it first, so that it starts no others.
        """
        postmaster = psutil.Process(self._supervisor.running["postgres"].identity.pid)
        postmaster.send_signal(number)
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return processes

    def _start_again(self) -> None:
        postgres.remove_stale_lock(self._folder / "postgres")
        self._supervisor.start(self._supervisor.running["postgres"].command)
        self._wait()

    def _wait(self) -> None:
        self._supervisor.wait_for({"postgres": lambda: postgres.is_ready(self.url)}, seconds=PATIENCE_SECONDS)


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """Run a server during the block. It is removed even if this process is killed."""
    with Supervisor(Interrupts()) as supervisor:
        yield Postgres(supervisor, folder)
