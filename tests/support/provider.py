"""Starts the sandbox payment provider as a process, for tests that count charges from outside."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk_test_sandbox"


class Provider(NamedTuple):
    """A running provider: its URL, its bearer key, and its SQLite file."""

    url: str
    key: str
    store: Path

    def request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        with httpx2.Client(trust_env=False, timeout=30) as client:
            return client.request(method, f"{self.url}{path}", headers=headers, **options)

    def charge(
        self, idempotency_key: str, source: str = "tok_visa", *, amount: Any = 1999, **headers: str
    ) -> httpx2.Response:
        body = {"amount": amount, "currency": "usd", "source": source}
        headers = {"Idempotency-Key": idempotency_key, **headers}
        return self.request("POST", "/v1/charges", json=body, headers=headers)

    def charges(self, idempotency_key: str | None = None) -> list[dict[str, Any]]:
        return self._list("/v1/charges", idempotency_key)

    def calls(self, idempotency_key: str | None = None) -> list[dict[str, Any]]:
        return self._list("/v1/calls", idempotency_key)

    def outcomes(self, idempotency_key: str) -> list[str]:
        return [call["outcome"] for call in self.calls(idempotency_key)]

    def wait_for(self, idempotency_key: str, outcomes: list[str]) -> None:
        """Wait until the calls under the key have these outcomes, at most ten seconds."""
        end = time.monotonic() + 10
        while (seen := self.outcomes(idempotency_key)) != outcomes:
            assert time.monotonic() < end, f"{seen} instead of {outcomes}"

    def stats(self) -> dict[str, int]:
        return self.request("GET", "/v1/stats").raise_for_status().json()

    def _list(self, path: str, idempotency_key: str | None) -> list[dict[str, Any]]:
        params = {"limit": "10000"} | ({} if idempotency_key is None else {"idempotency_key": idempotency_key})
        return self.request("GET", path, params=params).raise_for_status().json()["data"]


def start_provider(store: Path, *options: str, port: int = 0) -> tuple[subprocess.Popen[str], Provider]:
    """Start the provider and wait until it listens. The caller ends it, with `stop_provider` or as the test needs."""
    command = [sys.executable, "-m", "devstack.sandbox_provider", "--port", str(port), "--store", str(store)]
    process = subprocess.Popen([*command, "--key", KEY, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"The provider ended with {process.wait()} before it listened.")
    return process, Provider(line.split()[-1], KEY, store)


def stop_provider(process: subprocess.Popen[str]) -> int:
    """End the process with SIGTERM and return its exit code."""
    with process:
        process.terminate()
        return process.wait(timeout=10)


@contextmanager
def running_provider(store: Path, *options: str) -> Iterator[Provider]:
    """Run a provider on a free port during the block. Options go to its command line (`--slow-seconds`, `0.1`)."""
    process, provider = start_provider(store, *options)
    try:
        yield provider
    finally:
        stop_provider(process)
