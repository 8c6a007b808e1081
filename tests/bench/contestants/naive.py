"""The naive service with as many processes as Semel has by default."""

from __future__ import annotations

from devstack.services import API_WORKERS, WORKER_PROCESSES, answers
from tests.bench.contestants.contestant import Contestant
from tests.bench.yardsticks import yardsticks_python

PACKAGE = "tests.bench.peers.naive"
# Threads per process: more of them are slower here, since the work is Python's.
API_THREADS = "2"
PREFETCH = "4"


class Naive(Contestant):
    """granian and a Celery worker."""

    name = "naive"
    title = "naive"
    count_finished = "SELECT count(*) FROM naive_job WHERE status = 'done'"
    tasks_per_connection = ""

    def start(self) -> None:
        self.env = {
            "DJANGO_SETTINGS_MODULE": f"{PACKAGE}.settings",
            "BENCH_DATABASE_URL": self.addresses.database,
            "BENCH_REDIS_URL": self.addresses.broker,
            "BENCH_TASKS_PER_CONNECTION": self.tasks_per_connection,
            "BENCH_CALL_URL": self.addresses.calls,
        }
        python, env = yardsticks_python(), self.host.env | self.env
        self.host.run_python("migrate", "-m", "django", "migrate", "--run-syncdb", python=python, env=env)
        address = ["--interface", "wsgi", "--port", str(self.port), "--log-level", "warning"]
        capacity = ["--workers", API_WORKERS, "--blocking-threads", API_THREADS]
        self.host.start_python(
            "api", "-m", "granian", *address, *capacity, f"{PACKAGE}.wsgi:application", python=python, env=env
        )
        self.start_workers()
        self.host.supervisor.wait_for({"api": answers(self.port, "/ready")})

    def stop_workers(self) -> None:
        self.host.end("worker")

    def start_workers(self) -> None:
        options = ["-c", WORKER_PROCESSES, "--prefetch-multiplier", PREFETCH, "--without-gossip", "--without-mingle"]
        command = ["-m", "celery", "-A", f"{PACKAGE}.tasks", "worker", *options]
        self.host.start_python("worker", *command, python=yardsticks_python(), env=self.host.env | self.env)


class NaiveKept(Naive):
    """The same, except that a worker keeps its connection between tasks. Celery closes it after each task by default."""

    name = "kept"
    title = "naive, connections kept"
    tasks_per_connection = "1000"
