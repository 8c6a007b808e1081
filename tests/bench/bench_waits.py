"""Measure the cost of open waits: `python3 run.py test -n 0 -s tests/bench/bench_waits.py` (BENCH_WAITS=5000; two minutes).

Real connections to one real streams process. It prints figures, and fails only if a request fails.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil
import pytest
from django.db import connection, connections, transaction

from jobs import transitions
from jobs.payloads import encode_payload
from jobs.queries.watch import positions_after
from tests.support.factories import TenantFactory, claim, new_api_key, queued_job
from tests.support.stack import running_stack

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = int(os.environ.get("BENCH_WAITS", "5000"))
SAMPLES, POLLS, QUIET_SECONDS = 100, 10, 5.0
KINDS = {"wait": ("?wait=60", "application/json"), "events": ("/events", "text/event-stream")}


@dataclass
class Clients:
    """Many connections with one request each, and the times at which their responses ended."""

    url: str
    api_key: str
    kind: str
    answered_at: dict = field(default_factory=dict)
    statuses: set = field(default_factory=set)

    async def open(self, job_ids):
        """Send all requests and return the tasks that read the responses."""
        where, (path, accept) = urlsplit(self.url), KINDS[self.kind]
        tasks = []
        for job_id in job_ids:
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            head = (
                f"GET /v1/jobs/{job_id}{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.api_key}\r\n"
            )
            writer.write(f"{head}Accept: {accept}\r\nConnection: close\r\n\r\n".encode())
            tasks.append(asyncio.create_task(self._read(job_id, reader, writer)))
        return tasks

    async def _read(self, job_id, reader, writer):
        try:
            self.statuses.add((await reader.readline()).split()[1])
            while await reader.read(65_536):
                pass
            self.answered_at[job_id] = time.perf_counter()
        finally:
            writer.close()


@dataclass
class Bench:
    """Measures one streams process from outside."""

    stack: object
    clients: Clients

    def __post_init__(self):
        self.process = psutil.Process(self.stack.running["streams"].popen.pid)
        self.log = self.stack.running["streams"].log

    async def until_waiting(self, count):
        while self.log.read_text().count("streams.waiting") < count:
            await asyncio.sleep(0.1)

    @property
    def cpu(self):
        return sum(self.process.cpu_times()[:2])

    async def run(self, ids, jobs):
        # Warm up, because the first requests load modules.
        warm = await self.clients.open(ids[:8])
        await self.until_waiting(8)
        for task in warm:
            task.cancel()
        tasks = await self.open(ids)
        await self.rest()
        await self.wake(jobs)
        await self.stop(tasks)
        assert self.clients.statuses == {b"200"}
        assert self.clients.answered_at.keys() == {*ids}

    async def open(self, ids):
        rss, cpu, began = self.process.memory_info().rss, self.cpu, time.perf_counter()
        tasks = await self.clients.open(ids)
        await self.until_waiting(8 + len(ids))
        seconds, cpu, now = time.perf_counter() - began, self.cpu - cpu, self.process.memory_info().rss
        print(
            f"\n{len(ids)} x {self.clients.kind}, open after {seconds:.1f} s, {1000 * cpu / len(ids):.2f} ms of CPU each"
        )
        print(f"  memory {(now - rss) / len(ids) / 1024:.1f} KiB each; RSS {rss / 2**20:.0f} -> {now / 2**20:.0f} MiB")
        print(f"  {self.process.num_threads()} threads, {self.process.num_fds()} files")
        return tasks

    async def rest(self):
        cpu, began = self.cpu, time.perf_counter()
        await asyncio.sleep(QUIET_SECONDS)
        print(f"  idle: {100 * (self.cpu - cpu) / (time.perf_counter() - began):.1f} % of a core")

    async def wake(self, jobs):
        milliseconds = []
        with ThreadPoolExecutor(1) as worker:
            for job in jobs:
                at = await asyncio.get_running_loop().run_in_executor(worker, succeed, job)
                while job.id not in self.clients.answered_at:
                    await asyncio.sleep(0.0005)
                milliseconds.append(1000 * (self.clients.answered_at[job.id] - at))
            worker.submit(connections.close_all).result()
        milliseconds.sort()
        p95 = milliseconds[len(milliseconds) * 95 // 100]
        print(
            f"  from commit to the end of the response: median {statistics.median(milliseconds):.1f} ms, "
            f"p95 {p95:.1f} ms, worst of {len(jobs)} {milliseconds[-1]:.1f} ms"
        )

    async def stop(self, tasks):
        began = time.perf_counter()
        self.stack.signal("streams", signal.SIGTERM)
        await asyncio.gather(*tasks)
        answered = time.perf_counter() - began
        await asyncio.to_thread(self.stack.running["streams"].popen.wait)
        print(f"  stopped: all answered after {answered:.1f} s, gone after {time.perf_counter() - began:.1f} s")


def succeed(job):
    """End the job and return the time after its commit."""
    transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1))
    return time.perf_counter()


@contextmanager
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("kind", KINDS)
def test_memory_of_open_requests(tmp_path, transactional_db, kind):
    owner = TenantFactory()
    with transaction.atomic():
        ids = [queued_job(owner).id for _ in range(COUNT)]
    jobs = [claim(job_id) for job_id in ids[:SAMPLES]]
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE job")
    with many_files(), running_stack(tmp_path, LOG_LEVEL="DEBUG") as stack:
        clients = Clients(stack.start_streams(), new_api_key(owner), kind)
        asyncio.run(Bench(stack, clients).run(ids, jobs))


def test_duration_of_one_poll(transactional_db):
    owner = TenantFactory()
    with transaction.atomic():
        known = {queued_job(owner).id: 1 for _ in range(COUNT)}
    began = time.perf_counter()
    for _ in range(POLLS):
        assert positions_after(known) == {}
    print(f"\none poll of {COUNT} jobs: {1000 * (time.perf_counter() - began) / POLLS:.1f} ms")
