"""What the provider stores before it answers: keys, charges, refunds, calls and events, in one SQLite file."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from devstack.sandbox_provider.requests import Answer, Call, Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS idempotency_key (
        key TEXT PRIMARY KEY,
        request TEXT NOT NULL,
        is_busy INTEGER NOT NULL,  -- a call is running under this key
        status INTEGER,            -- of the stored answer; null until there is one
        body BLOB
    );
    CREATE TABLE IF NOT EXISTS charge (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        idempotency_key TEXT NOT NULL UNIQUE,  -- the guarantee: one key, one charge
        status TEXT NOT NULL,  -- authorized, then succeeded or canceled; or succeeded at once
        amount INTEGER NOT NULL,
        currency TEXT NOT NULL,
        description TEXT,
        job TEXT,
        created_at TEXT NOT NULL,
        source TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS refund (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        charge TEXT NOT NULL,
        idempotency_key TEXT NOT NULL UNIQUE,
        amount INTEGER NOT NULL,
        job TEXT,
        created_at TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS refund_charge ON refund (charge);
    CREATE TABLE IF NOT EXISTS call (
        number INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        job TEXT,
        fence TEXT,
        at TEXT NOT NULL,
        outcome TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS call_key ON call (key);
    CREATE TABLE IF NOT EXISTS event (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        type TEXT NOT NULL,
        body TEXT NOT NULL,
        due_at REAL,                           -- seconds since 1970; null once accepted
        tries INTEGER NOT NULL DEFAULT 0,
        deliveries INTEGER NOT NULL DEFAULT 0  -- how often it was accepted
    );
    CREATE INDEX IF NOT EXISTS event_due ON event (due_at) WHERE due_at IS NOT NULL;
"""
_CHARGES = """
    SELECT id, status, amount, (SELECT coalesce(sum(amount), 0) FROM refund WHERE refund.charge = charge.id) AS refunded,
        currency, description, idempotency_key, job, created_at, source
    FROM charge"""


@dataclass(frozen=True)
class Claimed:
    """The key belongs to this call until the call is settled or released."""

    number: int
    call: Call
    is_first: bool


@dataclass(frozen=True)
class Replayed:
    """The key has a stored answer."""

    answer: Answer


class KeyInUse:
    """Another call is running under this key."""


class KeyReused:
    """The key belongs to another request."""


class Store:
    """One connection behind one lock: SQLite has one writer at a time anyway."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._has_events = threading.Event()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        # With WAL, NORMAL loses no commit when the process is killed, only when the power fails.
        self._database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")
        with self._transaction() as database:
            # A call that was running when the process died has charged nothing: charge and answer are one commit.
            database.execute("UPDATE idempotency_key SET is_busy = 0")
            database.execute("UPDATE call SET outcome = 'lost' WHERE outcome = 'in_progress'")

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def claim(self, call: Call) -> Claimed | Replayed | KeyInUse | KeyReused:
        """Record the call and claim its key for it. In one transaction: of two concurrent calls one is first."""
        with self._transaction() as database:
            row = database.execute("SELECT * FROM idempotency_key WHERE key = ?", [call.key]).fetchone()
            if row is not None and row["request"] != call.request.canonical:
                self._record_call(call, "key_reused")
                return KeyReused()
            if row is not None and row["status"] is not None:
                self._record_call(call, "replayed")
                return Replayed(Answer(row["status"], row["body"]))
            if row is not None and row["is_busy"]:
                self._record_call(call, "key_in_use")
                return KeyInUse()
            database.execute(
                "INSERT INTO idempotency_key (key, request, is_busy) VALUES (?, ?, 1)"
                " ON CONFLICT (key) DO UPDATE SET is_busy = 1",
                [call.key, call.request.canonical],
            )
            return Claimed(self._record_call(call, "in_progress"), call, is_first=row is None)

    def settle(self, claimed: Claimed, decision: Decision) -> Answer:
        """Carry out the decision and store its answer under the key, in one transaction. Return the answer."""
        with self._transaction():
            return self._apply(claimed, decision)

    def settle_on_charge(
        self, claimed: Claimed, charge: str, decide: Callable[[dict[str, Any] | None], Decision]
    ) -> Answer:
        """Settle as `decide` says after reading the charge in the same transaction: concurrent calls run one by one."""
        with self._transaction() as database:
            row = database.execute(f"{_CHARGES} WHERE id = ?", [charge]).fetchone()
            return self._apply(claimed, decide(None if row is None else dict(row)))

    def release(self, claimed: Claimed, outcome: str) -> None:
        """Free the key for the next call: nothing was done."""
        with self._transaction() as database:
            database.execute("UPDATE idempotency_key SET is_busy = 0 WHERE key = ?", [claimed.call.key])
            database.execute("UPDATE call SET outcome = ? WHERE number = ?", [outcome, claimed.number])

    def _apply(self, claimed: Claimed, decision: Decision) -> Answer:
        for statement, values in decision.writes:
            self._database.execute(statement, values)
        self._database.execute(
            "UPDATE idempotency_key SET is_busy = 0, status = ?, body = ? WHERE key = ?",
            [decision.answer.status, decision.answer.body, claimed.call.key],
        )
        self._database.execute("UPDATE call SET outcome = ? WHERE number = ?", [decision.outcome, claimed.number])
        return decision.answer

    def due_events(self) -> list[dict[str, Any]]:
        """Return the events to send now, oldest first."""
        self._has_events.clear()
        return self._rows(
            "SELECT id, body, tries FROM event WHERE due_at <= :now ORDER BY number LIMIT 100", {"now": time.time()}
        )

    def record_delivery(self, event_id: str, *, is_accepted: bool, pause_seconds: float) -> None:
        """Mark the event as accepted, or schedule it again after a pause."""
        with self._transaction() as database:
            database.execute(
                "UPDATE event SET tries = tries + 1, deliveries = deliveries + :accepted,"
                " due_at = CASE WHEN :accepted THEN NULL ELSE :again END WHERE id = :id",
                {"id": event_id, "accepted": is_accepted, "again": time.time() + pause_seconds},
            )

    def resend(self, event_id: str) -> bool:
        """Send the event once more; return False if it does not exist."""
        with self._transaction() as database:
            return database.execute("UPDATE event SET due_at = 0 WHERE id = ?", [event_id]).rowcount == 1

    def events(self, *, limit: int) -> list[dict[str, Any]]:
        """Return the latest events, newest first."""
        rows = self._rows(
            "SELECT id, type, body, deliveries FROM event ORDER BY number DESC LIMIT :limit", {"limit": limit}
        )
        return [{**row, "body": json.loads(row["body"])} for row in rows]

    def wait_for_event(self, seconds: float) -> None:
        """Wait until there may be an event to send, at most this long."""
        self._has_events.wait(seconds)

    def charges(self, *, key: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the charges under the key, or all, newest first."""
        return self._rows(
            f"{_CHARGES} WHERE :key IS NULL OR idempotency_key = :key ORDER BY number DESC LIMIT :limit",
            {"key": key, "limit": limit},
        )

    def charge(self, charge_id: str) -> dict[str, Any] | None:
        return next(iter(self._rows(f"{_CHARGES} WHERE id = :id", {"id": charge_id})), None)

    def refunds(self, *, key: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the refunds under the key, or all, newest first."""
        return self._rows(
            "SELECT id, 'succeeded' AS status, charge, amount, idempotency_key, job, created_at FROM refund"
            " WHERE :key IS NULL OR idempotency_key = :key ORDER BY number DESC LIMIT :limit",
            {"key": key, "limit": limit},
        )

    def calls(self, *, key: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the latest calls under the key, or all, oldest first."""
        latest = self._rows(
            "SELECT key, job, fence, at, outcome FROM call"
            " WHERE :key IS NULL OR key = :key ORDER BY number DESC LIMIT :limit",
            {"key": key, "limit": limit},
        )
        return latest[::-1]

    def stats(self) -> dict[str, Any]:
        """Return the numbers of calls, charges, refunds, refusals and replays."""
        [counts] = self._rows(
            "SELECT (SELECT count(*) FROM call) AS calls, (SELECT count(*) FROM charge) AS charges,"
            " (SELECT coalesce(sum(amount), 0) FROM charge) AS charged_amount,"
            " (SELECT count(*) FROM refund) AS refunds, (SELECT coalesce(sum(amount), 0) FROM refund) AS refunded_amount,"
            " (SELECT count(*) FROM idempotency_key WHERE status >= 400) AS refusals,"
            " (SELECT count(*) FROM call WHERE outcome = 'replayed') AS replays",
            {},
        )
        return counts

    def _record_call(self, call: Call, outcome: str) -> int:
        """Insert the call and return its number."""
        cursor = self._database.execute(
            "INSERT INTO call (key, job, fence, at, outcome) VALUES (?, ?, ?, ?, ?)",
            [call.key, call.job, call.fence, now(), outcome],
        )
        if cursor.lastrowid is None:
            raise sqlite3.InternalError("The call got no number.")
        return cursor.lastrowid

    def _rows(self, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._database.execute(statement, values)]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all or nothing, then wake the event sender. BEGIN IMMEDIATE: a read cannot be overtaken by another write."""
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            yield self._database
        self._has_events.set()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
