"""What the demo's scenes play with, and how their figures are counted: from outside, over HTTP."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from devstack.errors import LauncherError
from devstack.http_client import Api

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devstack.console import Console
    from devstack.http_client import Answer
    from devstack.stack import Stack

ENDED = ("succeeded", "failed", "canceled", "unknown")
JOB_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Figures:
    """What a scene is judged by."""

    requests: int
    jobs: int
    charges: int
    replays: int


@dataclass
class Row:
    """One scene's line in the table."""

    scene: str
    expected: Figures
    counted: Figures
    # What else is not as it should be, each in a few words.
    complaints: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether all is as it should be."""
        return self.counted == self.expected and not self.complaints


class Stage:
    """A client of Semel, an observer at the payment provider, and the hand that ends processes."""

    def __init__(self, stack: Stack, console: Console) -> None:
        """``stack``: everything runs. Its provider is the sandbox, whose book is read with its own key."""
        self.api = Api(stack.base_url, stack.api_key)
        self.provider = Api(stack.provider_url, stack.provider_key)
        self.redis_url = stack.env["REDIS_URL"]
        self.database_name = stack.env["DATABASE_URL"].rpartition("/")[2]
        self.supervisor = stack.supervisor
        self.console = console

    def say(self, line: str) -> None:
        """Tell the audience."""
        self.console.say(line)

    def more(self, line: str) -> None:
        """Tell the audience more of the same."""
        self.console.more(line)

    def new_key(self, scene: str) -> str:
        """An idempotency key that nobody has used."""
        return f"{scene}-{secrets.token_hex(4)}"

    def charge(self, amount: int, source: str = "tok_visa") -> bytes:
        """The body that asks for a charge, in minor units. The source decides how the provider behaves."""
        params = {"amount": amount, "currency": "usd", "source": source}
        return json.dumps({"operation": "payments.charge", "params": params}).encode()

    def post(self, body: bytes, key: str) -> Answer:
        """The answer to a new job."""
        return self.api.post("/v1/jobs", body, key)

    def job(self, answer: Answer) -> dict[str, Any]:
        """The accepted job as it is now. The answer's ``Location`` leads to it."""
        document: dict[str, Any] = self.api.get(_address(answer)).document
        return document

    def ended_job(self, answer: Answer) -> dict[str, Any]:
        """The accepted job once it has ended, or as it is after JOB_SECONDS."""
        end = time.monotonic() + JOB_SECONDS
        while (job := self.job(answer))["state"] not in ENDED and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        return job

    def final_state(self, answer: Answer) -> str:
        """The state in which the accepted job ended."""
        return str(self.ended_job(answer)["state"])

    def history(self, answer: Answer) -> list[str]:
        """What happened to the accepted job, in order."""
        return [event["type"] for event in self.api.get(f"{_address(answer)}/events").document["data"]]

    def jobs(self, key: str) -> list[dict[str, Any]]:
        """Every job that the key started."""
        jobs: list[dict[str, Any]] = self.api.get(f"/v1/jobs?idempotency_key={quote(key)}").document["data"]
        return jobs

    def all_jobs(self) -> list[dict[str, Any]]:
        """Every job of the demo's, which are fewer than a page holds."""
        jobs: list[dict[str, Any]] = self.api.get("/v1/jobs?limit=100").document["data"]
        return jobs

    def count(self, key: str, *, requests: int, replays: int, charges_before: int) -> Figures:
        """The scene's figures: its jobs by its key, its charges by what was added to the book since."""
        return Figures(requests, len(self.jobs(key)), self.charges() - charges_before, replays)

    def total(self, rows: Sequence[Row]) -> Row:
        """The last line: what the scenes should add up to, against what there is in all, under whatever key."""
        sums = {
            name: sum(getattr(row.expected, name) for row in rows) for name in Figures.__dataclass_fields__
        }
        sent = {name: sum(getattr(row.counted, name) for row in rows) for name in ("requests", "replays")}
        return Row(
            "in all", Figures(**sums), Figures(jobs=len(self.all_jobs()), charges=self.charges(), **sent)
        )

    def book(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """The charges in the provider's book that were made for the job."""
        key = f"semel-{job['id']}-charge-1"
        charges: list[dict[str, Any]] = self.provider.get(f"/v1/charges?idempotency_key={key}").document[
            "data"
        ]
        return charges

    def charges(self) -> int:
        """How often money moved at the provider, under whatever key."""
        return int(self.provider.get("/v1/stats").document["charges"])


def _address(answer: Answer) -> str:
    """Where the job is that the answer tells of; LauncherError if it tells of none."""
    location = answer.headers.get("Location")
    if location is None:
        raise LauncherError(
            f"The demo got {answer.status} without a job: {answer.body.decode(errors='replace')}"
        )
    return location
