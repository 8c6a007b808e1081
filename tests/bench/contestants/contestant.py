"""What every contestant can do."""

from __future__ import annotations

import itertools
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Self

import psycopg

from devstack.ports import free_port
from tests.bench.cpu import Usage, other_cpu_seconds, tree_cpu_seconds
from tests.bench.load import CONNECTIONS, Endpoint, LoadResult, new_keys, run_load

if TYPE_CHECKING:
    from tests.bench.host import Host

# The same params for all.
PARAMS = {"amount": 1999, "currency": "usd", "source": "tok_visa"}


WARM_UP_SECONDS = 1.0
# Far longer than it takes to finish a next job.
END_SECONDS = 30.0
# Far longer than any number of requests takes.
SEND_SECONDS = 600.0


class NotMeasured(Exception):  # noqa: N818 - the benchmark continues without this figure
    """The figure could not be measured."""


class Contestant(ABC):
    """A service under measurement. ``with`` starts it on an empty database and removes it at the end."""

    name: ClassVar[str]
    title: ClassVar[str]
    # The name of its operation for each kind of job.
    operations: ClassVar[dict[str, str]] = {"short": "short", "call": "call"}
    path: ClassVar[str] = "/jobs"
    count_finished: ClassVar[str]  # SQL

    def __init__(self, host: Host, *, delay_ms: float = 0.0) -> None:
        """``delay_ms`` is the time of a round trip to PostgreSQL and to Valkey."""
        self.host = host
        self._delay_ms = delay_ms
        self.port = free_port()
        self.headers: dict[str, str] = {}
        self._before = set(host.supervisor.running)
        self._loads = itertools.count()

    def __enter__(self) -> Self:
        self.database_url = self.host.fresh_database(self.name)
        self.addresses = self.host.addresses(self.database_url, self._delay_ms)
        began = time.perf_counter()
        self.start()
        self.start_seconds = time.perf_counter() - began
        self.database = self.host.connect(self.database_url)
        return self

    def __exit__(self, *_: object) -> None:
        self.host.kill(self.own_names())
        with suppress(AttributeError, psycopg.Error):  # the start has failed
            self.database.close()
        self.host.drop_database(self.database_url)

    @abstractmethod
    def start(self) -> None:
        """Create the schema, start every process, and return when all are ready."""

    @abstractmethod
    def stop_workers(self) -> None:
        """Stop running jobs; requests are still accepted."""

    @abstractmethod
    def start_workers(self) -> None:
        """Run jobs again."""

    def make_backlog(self, kind: str, seconds: float) -> int:
        """Stop the workers, request jobs for this time, and return how many jobs there are in all."""
        first = self.finished() + self.warm_up()
        self.wait_for_finished(first)
        self.stop_workers()
        load, _ = self.send(self.new_keys(), seconds, kind)
        self.host.checkpoint()
        return first + load.sent

    def warm_up(self) -> int:
        """Let every process load its code and prepare its statements, then write what is dirty. Return the number of jobs."""
        load, _ = self.send(self.new_keys(), WARM_UP_SECONDS)
        self.host.checkpoint()
        return load.sent

    def new_keys(self) -> Iterator[bytes]:
        """Yield keys that no load has used."""
        return new_keys(f"load-{next(self._loads)}")

    def send(
        self, keys: Iterator[bytes], seconds: float, kind: str = "short", *, connections: int = CONNECTIONS
    ) -> tuple[LoadResult, Usage]:
        """Send load; return its result and the CPU time used meanwhile. Raises NotMeasured unless every answer is 202."""
        before = self.usage()
        load = run_load(self.endpoint(kind), keys, seconds=seconds, connections=connections)
        used = self.usage() - before
        if load.refused or load.unanswered:
            raise NotMeasured(f"{self.title} answered {dict(load.statuses)}; {load.unanswered} were not answered.")
        return load, used

    def send_count(self, count: int) -> int:
        """Request so many jobs, and return how many there are."""
        first = self.finished()
        return first + run_load(self.endpoint("short"), self.new_keys(), seconds=SEND_SECONDS, limit=count).sent

    def own_names(self) -> list[str]:
        """Return the names of all its processes."""
        return [name for name in self.host.supervisor.running if name not in self._before]

    def worker_names(self) -> list[str]:
        """Return the names of the processes that run jobs."""
        return [name for name in self.host.supervisor.running if name.startswith("worker")]

    def endpoint(self, kind: str) -> Endpoint:
        """Return where a job of this kind is requested."""
        body = json.dumps({"operation": self.operations[kind], "params": PARAMS}, separators=(",", ":"))
        return Endpoint(port=self.port, path=self.path, headers=self.headers, body=body.encode())

    def finished(self) -> int:
        """Return how many jobs have ended successfully."""
        row: Any = self.database.execute(self.count_finished).fetchone()
        return int(row[0])

    def wait_for_finished(self, jobs: int) -> None:
        """Wait until so many jobs have ended. Raises NotMeasured if none ends for a long time."""
        seen, seen_at = self.finished(), time.monotonic()
        while (now := self.finished()) < jobs:
            if now > seen:
                seen, seen_at = now, time.monotonic()
            elif time.monotonic() > seen_at + END_SECONDS:
                raise NotMeasured(f"{self.title} has finished only {now} of {jobs} jobs.")
            time.sleep(0.1)

    def usage(self) -> Usage:
        """Return the CPU time used so far."""
        return Usage(
            api=tree_cpu_seconds(self.pids(["api"])),
            worker=tree_cpu_seconds(self.pids(self.worker_names())),
            postgres=self.host.postgres_cpu_seconds(),
            broker=self.host.broker_cpu_seconds(),
            others=other_cpu_seconds(),
        )

    def pids(self, names: Iterable[str]) -> list[int]:
        """Return the processes of these names that run."""
        running = self.host.supervisor.running
        return [running[name].identity.pid for name in names if name in running]
