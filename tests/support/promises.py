"""Check from outside (HTTP, the provider's store, both servers) that the promises hold after a fault.

The invariants are listed in docs/explanation/reliability.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import redis
from django.conf import settings
from django.db import connection

from accounts.models import Tenant
from jobs.models import Job, Violation
from jobs.selfaudit import run_once
from tests.support.factories import TenantFactory, new_api_key
from tests.support.stack import POLL_SECONDS
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    import httpx2

    from tests.support.stack import Caller, Stack

QUEUES = ("high", "default", "low")
# The unacknowledged messages of every worker, as kombu keeps them.
UNACKED, UNACKED_INDEX = "unacked", "unacked_index"
# A charge's attempts, as its operation gives them.
MAX_ATTEMPTS = 5
# Events that settle a job, and events by which an operator or a client queues it again.
ENDS = {"succeed", "fail", "canceled", "cancel", "lapse", "doubt"}
RESTARTS = {"redrive", "resolve"}
# Events that a settled job may still get.
HEARD = {"late-effect", "payload-erased"}
# One session for each thread of two apis, two workers, maintenance and this test, and a few more.
SESSIONS_MAX = 60
_IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%%'"""


@dataclass
class Ledger:
    """A client that records every 202 and later checks the invariants.

    It uses another amount for each key, so that its charges can be recognized.
    """

    caller: Caller
    stack: Stack
    operation: str = "payments.charge"
    max_attempts: int = MAX_ATTEMPTS
    members: dict[str, str] = field(default_factory=dict)  # other members of each body, such as a concurrency key
    responses: dict[str, bytes] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=dict)
    _charged_before: int = 0

    def __post_init__(self) -> None:
        self._charged_before = self.stack.provider.stats()["charges"]

    def charge(self, key: str, *, by: Caller | None = None) -> dict[str, Any]:
        """Send the key's charge, check that it is accepted, and return the job of the response."""
        answer = self.send(key, by=by)
        assert answer.status_code == 202, answer.text
        assert self.responses.setdefault(key, answer.content) == answer.content
        return answer.json()

    def send(self, key: str, *, by: Caller | None = None) -> httpx2.Response:
        """Send the key's charge once and return any response."""
        return (by or self.caller).charge(key, amount=self._amount_of(key), operation=self.operation, **self.members)

    def _amount_of(self, key: str) -> int:
        """Return the key's amount, which is different for each key."""
        return self.amounts.setdefault(key, 100 + len(self.amounts))

    def settle(self, *, seconds: float = 60.0, in_doubt: Collection[str] = ()) -> dict[str, dict[str, Any]]:
        """Wait until every accepted job has ended, check all invariants, and return the jobs by key.

        in_doubt: the keys of jobs that must be `unknown` instead.
        """
        jobs = self.caller.when_ended(len(self.responses), seconds=seconds, stack=self.stack, in_doubt=len(in_doubt))
        assert {job["idempotency_key"] for job in jobs if job["state"] == "unknown"} == set(in_doubt)
        by_key = {job["idempotency_key"]: job for job in jobs}
        self._assert_accepted_once(jobs, by_key)
        self._assert_charged_once(jobs)
        for job in jobs:
            self._assert_history_holds(job)
        self._assert_retries_are_answered()
        self._assert_strangers_see_nothing(jobs)
        assert_nothing_is_left_over()
        self._assert_audit_is_clean()
        return by_key

    def history(self, key: str) -> list[str]:
        """Return the types of the events of the key's job."""
        return [event["type"] for event in self._events(self._job_id(key))]

    def effects(self, key: str) -> list[str]:
        """Return the outcome that the provider stored for each call of the key's job."""
        return self.stack.provider.outcomes(f"semel-{self._job_id(key)}-charge-1")

    def _job_id(self, key: str) -> str:
        [job] = self.caller.jobs(idempotency_key=key)
        return job["id"]

    def _events(self, job_id: str) -> list[dict[str, Any]]:
        return self.caller.http.get(f"/v1/jobs/{job_id}/events").raise_for_status().json()["data"]

    def _assert_accepted_once(self, jobs: list[dict[str, Any]], by_key: dict[str, dict[str, Any]]) -> None:
        """Check I2 and a part of I1: each 202 has one job, and there is no other job."""
        assert len(jobs) == len(by_key) == len(self.responses)
        assert set(by_key) == set(self.responses)

    def _assert_charged_once(self, jobs: list[dict[str, Any]]) -> None:
        """Check I1 at the provider: one charge if the job succeeded, at most one if it is unknown, and none under other keys.

        A job that failed did nothing, unless it says that it is partially done; a canceled one did nothing.
        """
        made = 0
        for job in jobs:
            charges = self.stack.provider.charges(f"semel-{job['id']}-charge-1")
            assert len(charges) in _charges_of(job), (job, charges)
            if job["state"] == "succeeded":
                assert job["result"]["charge_id"] == charges[0]["id"]
            made += len(charges)
        assert self.stack.provider.stats()["charges"] - self._charged_before == made

    def _assert_history_holds(self, job: dict[str, Any]) -> None:
        """Check I4 and I5: the fence only increases, an ended job does not change, and attempts are bounded."""
        events = self._events(job["id"])
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        claims = [event["attempt"] for event in events if event["type"] == "claim"]
        assert claims == list(range(1, job["attempt"] + 1))
        lives = _lives([event["type"] for event in events])
        for life in lives:
            end = next((place for place, name in enumerate(life) if name in ENDS), len(life))
            assert set(life[end + 1 :]) <= HEARD, lives
            # One more attempt may only reconcile.
            assert life.count("claim") - life.count("postpone") <= self.max_attempts + 1, lives
        used = lives[0].count("claim") - lives[0].count("postpone")
        if len(lives) == 1 and used <= self.max_attempts:
            assert used + job["attempts_left"] == self.max_attempts

    def _assert_retries_are_answered(self) -> None:
        """Check I3: the same request gets the same response, and another request is refused."""
        for key, body in self.responses.items():
            again = self.send(key)
            assert (again.status_code, again.content) == (202, body)
            assert again.headers["Idempotency-Replayed"] == "true"
            other = self.caller.charge(key, amount=1, operation=self.operation)
            assert other.json()["code"] == "idempotency-key-reused"

    def _assert_strangers_see_nothing(self, jobs: list[dict[str, Any]]) -> None:
        """Check I6: another tenant, and the same tenant in the other mode, sees none of the jobs and keys."""
        tenant = Tenant.objects.get(pk=Job.objects.get(pk=jobs[0]["id"]).tenant_id)
        for key in (new_api_key(TenantFactory()), new_api_key(tenant, mode="live")):
            with self.caller.another(key) as stranger:
                assert stranger.jobs() == []
                for job in jobs:
                    assert stranger.http.get(f"/v1/jobs/{job['id']}").status_code == 404
                    about_key = f"/v1/idempotency-keys/{job['idempotency_key']}"
                    assert stranger.http.get(about_key).status_code == 404

    def _assert_audit_is_clean(self) -> None:
        """Check I1, I3, I4 and I5 on the rows with the product's own self-audit."""
        run_once(window=timedelta(hours=1))
        assert not list(Violation.objects.filter(resolved_at=None))


def assert_nothing_is_left_over(*, seconds: float = 30.0) -> None:
    """Check I9: no message is left, no transaction is open, and there are at most SESSIONS_MAX sessions."""
    until(lambda: sessions() <= SESSIONS_MAX, seconds=seconds, pause_seconds=POLL_SECONDS)
    until(lambda: not idle_transactions(), seconds=seconds, pause_seconds=POLL_SECONDS)
    until(lambda: not messages(), seconds=seconds, pause_seconds=POLL_SECONDS)


def let_messages_be_taken_over() -> None:
    """Make the visibility time-out of each unacknowledged message expire.

    The time is the score of a sorted set. A worker reads it at its start and every hundred seconds.
    """
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        held = broker.zrange(UNACKED_INDEX, 0, -1)
        assert held
        broker.zadd(UNACKED_INDEX, dict.fromkeys(held, 0), xx=True)


def _charges_of(job: dict[str, Any]) -> set[int]:
    """Return the possible numbers of charges of the job."""
    if job["state"] == "unknown":
        return {0, 1}
    is_partial = job["state"] == "failed" and job["error"]["code"] == "partially-done"
    return {1} if job["state"] == "succeeded" or is_partial else {0}


def _lives(history: list[str]) -> list[list[str]]:
    """Split the job's events at each redrive and resolve."""
    lives: list[list[str]] = [[]]
    for name in history:
        if name in RESTARTS:
            lives.append([])
        lives[-1].append(name)
    return lives


def idle_transactions() -> int:
    """Return the number of sessions of this database that are idle in a transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_IN_TRANSACTION)
        return int(cursor.fetchone()[0])


def sessions() -> int:
    """Return the number of sessions of this database, this one included."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def messages() -> int:
    """Return the number of messages in the broker, waiting or unacknowledged."""
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        return sum(broker.llen(queue) for queue in QUEUES) + broker.hlen(UNACKED)
