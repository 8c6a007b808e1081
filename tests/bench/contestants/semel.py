"""Semel: the processes of `run.py serve` with default settings, authentication and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devstack.console import Console
from devstack.folder import Folder
from devstack.services import answers_ping
from devstack.stack import Stack
from tests.bench import operations
from tests.bench.contestants.contestant import Contestant

if TYPE_CHECKING:
    from devstack.processes import Command


class Silence(Console):
    """The stack's own lines are not printed."""

    def print(self, line: str) -> None:
        """Print nothing."""


class Semel(Contestant):
    """Only OPERATIONS differs from the defaults, so that jobs are short."""

    name = "semel"
    title = "Semel"
    path = "/v1/jobs"
    operations = {"short": "bench.nothing", "call": "bench.call", "plain call": "bench.plain_call"}
    # Served by job_ended.
    count_finished = "SELECT count(*) FROM job WHERE finished_at > now() - interval '1 day'"

    def start(self) -> None:
        settings = {
            "OPERATIONS": ",".join(f"{operations.__name__}.{name}" for name in operations.OPERATIONS),
            "BENCH_CALL_URL": self.addresses.calls,
        }
        folder = Folder(self.host.supervisor.scratch / self.database_url.rpartition("/")[2])
        self.stack = Stack(self.host.supervisor, folder, Silence(), port=self.port, overrides=settings)
        self.stack.start(outside=(self.addresses.database, self.addresses.broker))
        self.headers = {"Authorization": f"Bearer {self.stack.api_key}"}
        self._stopped: list[Command] = []

    def stop_workers(self) -> None:
        running = self.host.supervisor.running
        self._stopped = [running[name].command for name in self.worker_names()]
        for command in self._stopped:
            self.host.end(command.name)

    def start_workers(self) -> None:
        for command in self._stopped:
            self.host.supervisor.start(command)
        checks = {each.name: answers_ping(self.addresses.broker, each.name) for each in self._stopped}
        self.host.supervisor.wait_for(checks)

    def jobs(self) -> int:
        """Return how many jobs there are."""
        [count] = self.database.execute("SELECT count(*) FROM job").fetchone() or [0]
        return int(count)
