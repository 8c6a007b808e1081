"""Starts Semel's processes for a test with their real commands, each in a process group that is ended by SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
import psutil
import redis
from django.conf import settings
from django.db import connection

from devstack import services
from devstack.environment import IMAGE_ONLY
from devstack.open_files import fitting_connections
from devstack.ports import free_port
from devstack.processes import Command, Running, start
from tests.support.provider import Provider, running_provider
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Short intervals, in the same relations as the defaults, so that tests do not wait long.
SHORT_INTERVALS = {
    "SWEEP_SECONDS": "0.5",
    "BACKOFF_BASE_SECONDS": "0.2",
    "BACKOFF_MAX_SECONDS": "1",
    "PURGE_SECONDS": "3600",
    "LOG_LEVEL": "WARNING",
    # Each further process of the api costs as much as its start. Tests that need two start two.
    "API_WORKERS": "1",
    "PYTHONPATH": str(IMAGE_ONLY),
}
# The shortest lease that outlasts a charge: the provider's time-out of 1 s, 2 s around the call and 2 s of margin.
SHORT_LEASE = {
    "PAYMENT_PROVIDER_TIMEOUT_SECONDS": "1",
    "EFFECT_TIMEOUT_SECONDS": "3",
    "LEASE_SECONDS": "6",
    "HEARTBEAT_SECONDS": "1",
    "ATTEMPT_MARGIN_SECONDS": "1",
    "LOST_LEASE_EXIT_SECONDS": "1",
}
# On a busy machine a process needs seconds to import Django.
START_SECONDS = 60.0
# The pause between two polls of a process: each poll uses CPU time.
POLL_SECONDS = 0.1


def database_url() -> str:
    """Return the URL of this test process's database."""
    to = connection.settings_dict
    return f"postgres://{to['USER']}:{to['PASSWORD']}@{to['HOST']}:{to['PORT']}/{to['NAME']}"


@dataclass
class Stack:
    """Running processes by name, and the environment of new ones."""

    folder: Path
    env: dict[str, str]
    provider: Provider
    running: dict[str, Running] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    def start_api(self, name: str = "api", **env: str) -> str:
        """Start an api process, wait until it answers, and return its URL."""
        port = free_port()
        return self._serve(name, services.api({**self.env, **env}, port), port)

    def start_streams(self, name: str = "streams", **env: str) -> str:
        """Start a streams process, wait until it answers, and return its URL."""
        port = free_port()
        return self._serve(name, services.streams({**self.env, **env}, port), port)

    def _serve(self, name: str, command: Command, port: int) -> str:
        self._start(name, command)
        url = self.urls[name] = f"http://127.0.0.1:{port}"
        with httpx2.Client(trust_env=False) as client:
            until(
                lambda: self._answers(name, client, f"{url}/livez"), seconds=START_SECONDS, pause_seconds=POLL_SECONDS
            )
            assert client.get(f"{url}/readyz").status_code == 200
        return url

    def start_workers(self, *names: str, **env: str) -> None:
        """Start these of worker, maintenance and beat, without waiting until they work.

        A second process of a kind has a name with a dash; any other name starts a worker.
        """
        env = {**self.env, **env}
        for name in names:
            match name.partition("-")[0]:
                case "beat":
                    command = services.beat(env, self.folder / "schedule")
                case "maintenance":
                    command = services.maintenance(env)
                case _:
                    command = services.worker(env)
            self._start(name, command)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send the signal to each process of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running[name].popen.pid, number)

    def frozen_children(self, name: str) -> list[psutil.Process]:
        """Return the children of the process that are stopped."""
        children = psutil.Process(self.running[name].popen.pid).children()
        return [child for child in children if child.status() == psutil.STATUS_STOPPED]

    def kill(self, name: str) -> None:
        """Kill the whole process group."""
        self.signal(name, signal.SIGKILL)
        self.running.pop(name).popen.wait()

    def logs(self) -> str:
        """Return the last log lines of every process, for a failed test."""
        return "\n".join(f"--- {name}\n{one.last_lines()}" for name, one in self.running.items())

    def _start(self, name: str, command: Command) -> None:
        self.running[name] = start(command, self.folder / f"{name}.log")

    def _answers(self, name: str, client: httpx2.Client, url: str) -> bool:
        assert not self.running[name].has_ended, self.running[name].last_lines()
        with contextlib.suppress(httpx2.TransportError):
            return client.get(url).is_success
        return False


@contextlib.contextmanager
def running_stack(folder: Path, *provider_options: str, **env: str) -> Iterator[Stack]:
    """Run a provider, and yield a stack without processes; at the end everything is stopped."""
    with redis.Redis.from_url(settings.REDIS_URL) as valkey:
        valkey.flushdb()
    with running_provider(folder / "provider.sqlite", *provider_options) as provider:
        full_env = {
            **os.environ,
            **SHORT_INTERVALS,
            "DATABASE_URL": database_url(),
            "REDIS_URL": settings.REDIS_URL,
            "PAYMENT_PROVIDER_URL": provider.url,
            "PAYMENT_PROVIDER_KEY": provider.key,
            "PYTHONUNBUFFERED": "1",
            **fitting_connections(env),
            **env,
        }
        stack = Stack(folder, full_env, provider)
        try:
            yield stack
        finally:
            for name in list(stack.running):
                stack.kill(name)


def unless_in_progress(answer: httpx2.Response) -> httpx2.Response | None:
    """Return the answer, or None if it says that the key's first request is still running."""
    in_progress = answer.status_code == 409 and answer.json()["code"] == "idempotency-request-in-progress"
    return None if in_progress else answer


class Caller:
    """A client over real sockets that never repeats a request by itself."""

    def __init__(self, url: str, api_key: str) -> None:
        self.http = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            trust_env=False,
            timeout=30,
            limits=httpx2.Limits(max_connections=100),
        )

    def charge(
        self,
        key: str,
        source: str = "tok_visa",
        *,
        amount: int = 1999,
        operation: str = "payments.charge",
        **members: str,
    ) -> httpx2.Response:
        """Post one charge. `members`: other members of the body, such as a concurrency key."""
        params: dict[str, Any] = {"amount": amount, "currency": "usd", "source": source}
        body = {"operation": operation, "params": params, **members}
        return self.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})

    @contextlib.contextmanager
    def another(self, api_key: str) -> Iterator[Caller]:
        """Open a client of the same api with another key."""
        caller = Caller(str(self.http.base_url), api_key)
        with caller.http:
            yield caller

    def jobs(self, **query: str) -> list[dict[str, Any]]:
        """Return every job that matches, over all pages."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.http.get("/v1/jobs", params={"limit": "100", **query, **cursor}).raise_for_status().json()
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    def job_when(self, address: str, state: str) -> dict[str, Any]:
        """Wait until the job at the address is in this state, and return it."""

        def job_in_state() -> dict[str, Any] | None:
            job = self.http.get(address).json()
            return job if job["state"] == state else None

        return until(job_in_state, seconds=90, pause_seconds=POLL_SECONDS)

    def when_ended(self, count: int, *, seconds: float, stack: Stack, in_doubt: int = 0) -> list[dict[str, Any]]:
        """Wait until the tenant has `count` jobs and all have ended, except this many that are unknown; return them."""

        def ended() -> list[dict[str, Any]] | None:
            jobs = self.jobs()
            waiting = [job for job in jobs if job["state"] not in ("succeeded", "failed", "canceled")]
            unknown = [job for job in waiting if job["state"] == "unknown"]
            return None if len(unknown) != in_doubt or waiting != unknown or len(jobs) < count else jobs

        try:
            return until(ended, seconds=seconds, pause_seconds=POLL_SECONDS)
        except AssertionError as error:
            states = [(job["state"], job["attempt"], job["params"]["source"]) for job in self.jobs()]
            left = [state for state in states if state[0] in ("queued", "running", "unknown")]
            raise AssertionError(f"{error}\n{len(states)} jobs, not ended: {left}\n{stack.logs()}") from None
