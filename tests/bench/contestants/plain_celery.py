"""Celery alone, without an API and a database: only its tasks are measured."""

from __future__ import annotations

from devstack.services import WORKER_PROCESSES
from tests.bench.contestants.contestant import Contestant
from tests.bench.yardsticks import yardsticks_python

MODULE = "tests.bench.peers.plain_celery"
# More than two processes finish in a minute.
TASKS = 1_200


class PlainCelery(Contestant):
    """A worker with two processes. What it has finished are the calls that the slow service has answered."""

    name = "celery"
    title = "plain Celery"
    count_finished = ""

    def start(self) -> None:
        self.env = self.host.env | {"BENCH_REDIS_URL": self.addresses.broker, "BENCH_CALL_URL": self.addresses.calls}

    def make_backlog(self, kind: str, seconds: float) -> int:
        self._already_answered = self.host.calls()["answered"]
        self.host.run_python("send", "-m", MODULE, str(TASKS), python=yardsticks_python(), env=self.env)
        return TASKS

    def stop_workers(self) -> None:
        self.host.end("worker")

    def start_workers(self) -> None:
        options = ["-c", WORKER_PROCESSES, "--without-gossip", "--without-mingle"]
        command = ["-m", "celery", "-A", MODULE, "worker", *options]
        self.host.start_python("worker", *command, python=yardsticks_python(), env=self.env)

    def finished(self) -> int:
        return self.host.calls()["answered"] - self._already_answered
