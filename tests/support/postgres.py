"""A PostgreSQL of a test's own, as durable as in earnest: killed, stopped, frozen, its sessions ended."""

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
    """A server in `folder` with Semel's schema, on a port that stays the same. Begins by running."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self._supervisor = supervisor
        self._folder = folder
        env = base_environment(supervisor.tag)
        self.url = postgres.start_postgres(supervisor, folder / "postgres", PASSWORD, env, is_durable=True)
        self._wait()
        self._env = {**env, "DATABASE_URL": self.url}
        supervisor.run(services.migrate(self._env))

    def new_api_key(self) -> str:
        """The key of the one tenant, in test mode."""
        file = self._folder / "seed.json"
        argv = [sys.executable, "-m", "devstack.seed", str(file)]
        env = {**self._env, "SEMEL_PROCESS": "manage", "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        self._supervisor.run(Command("seed", argv, env))
        return json.loads(file.read_text(encoding="utf-8"))["api_key"]

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Every process of the server is gone without a word; when the block ends it is started again, and recovers."""
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
        """Shut down in good order, sessions ended; when the block ends it is started again."""
        running = self._supervisor.running["postgres"]
        running.identity.send(signal.SIGINT)
        running.popen.wait(PATIENCE_SECONDS)
        try:
            yield
        finally:
            self._start_again()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """No process of the server moves until the block ends; its kernel takes connections and bytes all the same."""
        processes = self._all(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def end_sessions(self) -> None:
        """Every session of Semel's database has been told to end."""
        self._count("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE", "TRUE")

    def idle_in_transaction(self) -> int:
        """How many sessions hold a transaction open and do nothing in it."""
        return self._count("SELECT count(*) FROM pg_stat_activity WHERE", "state LIKE 'idle in transaction%'")

    def _count(self, select: str, condition: str) -> int:
        others = "datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        with psycopg.connect(self.url, autocommit=True) as session:
            [count] = session.execute(f"{select} {others} AND {condition}").fetchone() or [0]
        return int(count)

    def _all(self, number: signal.Signals) -> list[psutil.Process]:
        """Every process of the server; each has got the signal, the postmaster first, so that it starts no more."""
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
    """A server for as long as the block runs; nothing of it outlives this process."""
    with Supervisor(Interrupts()) as supervisor:
        yield Postgres(supervisor, folder)
