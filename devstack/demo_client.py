"""What the demo's scenarios use: a client of Semel, and a reader of the payment provider that counts from outside."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from devstack.console import LauncherError
from devstack.http_client import Api

if TYPE_CHECKING:
    from devstack.console import Console
    from devstack.http_client import Answer
    from devstack.stack import Stack

ENDED = ("succeeded", "failed", "canceled", "unknown")
JOB_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Counts:
    """The numbers of a scenario."""

    requests: int
    jobs: int
    charges: int
    replays: int


@dataclass
class Result:
    """The result of one scenario: a row of the table."""

    scenario: str
    expected: Counts
    counted: Counts
    # What else went wrong, each in a few words.
    problems: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        return self.counted == self.expected and not self.problems


def problems(*checks: tuple[bool, str]) -> list[str]:
    """Return the descriptions of the checks that failed."""
    return [problem for is_right, problem in checks if not is_right]


class DemoClient:
    """A client of the stack and of its sandbox payment provider; scenarios also use its supervisor to end processes."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self.api = Api(stack.base_url, stack.api_key)
        self.provider = Api(stack.provider_url, stack.provider_key)
        self.redis_url = stack.env["REDIS_URL"]
        self.database_name = stack.env["DATABASE_URL"].rpartition("/")[2]
        self.supervisor = stack.supervisor
        self.print = console.print
        self.print_more = console.print_more

    def new_key(self, scenario: str) -> str:
        return f"{scenario}-{secrets.token_hex(4)}"

    def charge_body(self, amount: int, source: str = "tok_visa") -> bytes:
        """Return the body of a charge in minor units. The source decides how the sandbox provider behaves."""
        params = {"amount": amount, "currency": "usd", "source": source}
        return json.dumps({"operation": "payments.charge", "params": params}).encode()

    def post(self, body: bytes, key: str) -> Answer:
        return self.api.post("/v1/jobs", body, key)

    def job(self, answer: Answer) -> dict[str, Any]:
        """Return the accepted job as it is now."""
        document: dict[str, Any] = self.api.get(_location(answer)).document
        return document

    def ended_job(self, answer: Answer) -> dict[str, Any]:
        """Return the accepted job once it has ended, or as it is after JOB_SECONDS."""
        end = time.monotonic() + JOB_SECONDS
        while (job := self.job(answer))["state"] not in ENDED and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        return job

    def final_state(self, answer: Answer) -> str:
        return str(self.ended_job(answer)["state"])

    def history(self, answer: Answer) -> list[str]:
        """Return the types of the accepted job's events, in order."""
        return [event["type"] for event in self.api.get(f"{_location(answer)}/events").document["data"]]

    def jobs(self, key: str) -> list[dict[str, Any]]:
        """Return every job that the key started."""
        jobs: list[dict[str, Any]] = self.api.get(f"/v1/jobs?idempotency_key={quote(key)}").document["data"]
        return jobs

    def all_jobs(self) -> list[dict[str, Any]]:
        """Return every job of the demo; they fit into one page."""
        jobs: list[dict[str, Any]] = self.api.get("/v1/jobs?limit=100").document["data"]
        return jobs

    def count(self, key: str, *, requests: int, replays: int, charges_before: int) -> Counts:
        """Count the scenario's jobs by its key, and its charges by what the provider stored since."""
        return Counts(requests, len(self.jobs(key)), self.charges() - charges_before, replays)

    def total(self, results: Sequence[Result]) -> Result:
        """Return the last row: the expected sums, and all jobs and charges there are, whatever their key."""
        expected = {name: sum(asdict(one.expected)[name] for one in results) for name in asdict(Counts(0, 0, 0, 0))}
        sent = {name: sum(asdict(one.counted)[name] for one in results) for name in ("requests", "replays")}
        counted = Counts(jobs=len(self.all_jobs()), charges=self.charges(), **sent)
        return Result("in all", Counts(**expected), counted)

    def charges_of(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the charges that the provider stored for the job."""
        path = f"/v1/charges?idempotency_key=semel-{job['id']}-charge-1"
        charges: list[dict[str, Any]] = self.provider.get(path).document["data"]
        return charges

    def charges(self) -> int:
        """Return how many charges the provider stored, under any key."""
        return int(self.provider.get("/v1/stats").document["charges"])


def _location(answer: Answer) -> str:
    location = answer.headers.get("Location")
    if location is None:
        raise LauncherError(f"The demo got {answer.status} without a job: {answer.body.decode(errors='replace')}")
    return location
