"""What the provider must never forget: keys, charges, refunds and calls, in one SQLite file, committed first."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from devstack.sandbox_provider.claims import Answer, Call, Claimed, Decision, KeyInUse, KeyReused, Replayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS idempotency_key (
        key TEXT PRIMARY KEY,
        request TEXT NOT NULL,
        is_busy INTEGER NOT NULL,  -- a call is at work under this key
        status INTEGER,            -- the stored answer: null until there is one
        body BLOB
    );
    CREATE TABLE IF NOT EXISTS charge (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        idempotency_key TEXT NOT NULL UNIQUE,  -- the promise itself: one key, one charge
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
        due_at REAL,                        -- seconds since 1970; null once it was taken
        tries INTEGER NOT NULL DEFAULT 0,
        deliveries INTEGER NOT NULL DEFAULT 0  -- how often it was taken
    );
    CREATE INDEX IF NOT EXISTS event_due ON event (due_at) WHERE due_at IS NOT NULL;
"""
_CHARGES = """
    SELECT id, status, amount, (SELECT coalesce(sum(amount), 0) FROM refund WHERE refund.charge = charge.id) AS refunded,
        currency, description, idempotency_key, job, created_at, source
    FROM charge"""


class Book:
    """One connection behind one lock: SQLite has one writer at a time anyway."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._has_events = threading.Event()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        # With WAL, NORMAL survives the death of the process at any moment; only a power cut costs commits.
        self._database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")
        if "source" not in {row["name"] for row in self._database.execute("PRAGMA table_info(charge)")}:
            # A book from before charges knew it.
            self._database.execute("ALTER TABLE charge ADD COLUMN source TEXT NOT NULL DEFAULT ''")
        with self._transaction() as database:
            # Whoever was at work when the process died had charged nothing: charge and answer are one commit.
            database.execute("UPDATE idempotency_key SET is_busy = 0")
            database.execute("UPDATE call SET outcome = 'lost' WHERE outcome = 'in_progress'")

    def close(self) -> None:
        """The file is complete in itself."""
        with self._lock:
            self._database.close()

    def claim(self, call: Call) -> Claimed | Replayed | KeyInUse | KeyReused:
        """The call is noted, and has the key, or learns why not. One commit, so of two calls one is first."""
        with self._transaction() as database:
            row = database.execute("SELECT * FROM idempotency_key WHERE key = ?", [call.key]).fetchone()
            if row is not None and row["request"] != call.request.canonical:
                self._note(call, "key_reused")
                return KeyReused()
            if row is not None and row["status"] is not None:
                self._note(call, "replayed")
                return Replayed(Answer(row["status"], row["body"]))
            if row is not None and row["is_busy"]:
                self._note(call, "key_in_use")
                return KeyInUse()
            database.execute(
                "INSERT INTO idempotency_key (key, request, is_busy) VALUES (?, ?, 1)"
                " ON CONFLICT (key) DO UPDATE SET is_busy = 1",
                [call.key, call.request.canonical],
            )
            return Claimed(self._note(call, "in_progress"), call, is_first=row is None)

    def settle(
        self, claimed: Claimed, answer: Answer, outcome: str, *write: tuple[str, dict[str, Any]]
    ) -> None:
        """The answer is stored under the key, in the same commit as what it tells of."""
        with self._transaction() as database:
            for statement, values in write:
                database.execute(statement, values)
            self._store(database, claimed, answer, outcome)
        self._has_events.set()

    def settle_on(
        self, claimed: Claimed, charge: str, decide: Callable[[dict[str, Any] | None], Decision]
    ) -> Answer:
        """What `decide` makes of the charge as it is at this moment, and is: two who want the same of it meet here."""
        with self._transaction() as database:
            row = database.execute(f"{_CHARGES} WHERE id = ?", [charge]).fetchone()
            decision = decide(None if row is None else dict(row))
            for statement, values in decision.write:
                database.execute(statement, values)
            self._store(database, claimed, decision.answer, decision.outcome)
        self._has_events.set()
        return decision.answer

    @staticmethod
    def _store(database: sqlite3.Connection, claimed: Claimed, answer: Answer, outcome: str) -> None:
        database.execute(
            "UPDATE idempotency_key SET is_busy = 0, status = ?, body = ? WHERE key = ?",
            [answer.status, answer.body, claimed.call.key],
        )
        database.execute("UPDATE call SET outcome = ? WHERE number = ?", [outcome, claimed.number])

    def due_events(self) -> list[dict[str, Any]]:
        """What is to be told now; the oldest first."""
        self._has_events.clear()
        return self._rows(
            "SELECT id, body, tries FROM event WHERE due_at <= :now ORDER BY number LIMIT 100",
            {"now": time.time()},
        )

    def note_delivery(self, event_id: str, *, is_taken: bool, pause_seconds: float) -> None:
        """The event was taken, or is to be told again after a pause."""
        with self._transaction() as database:
            database.execute(
                "UPDATE event SET tries = tries + 1, deliveries = deliveries + :taken,"
                " due_at = CASE WHEN :taken THEN NULL ELSE :again END WHERE id = :id",
                {"id": event_id, "taken": is_taken, "again": time.time() + pause_seconds},
            )

    def resend(self, event_id: str) -> bool:
        """Whether there is such an event; it is told once more."""
        with self._transaction() as database:
            found = database.execute("UPDATE event SET due_at = 0 WHERE id = ?", [event_id]).rowcount
        self._has_events.set()
        return found == 1

    def events(self, *, limit: int) -> list[dict[str, Any]]:
        """The latest events; the newest first."""
        rows = self._rows(
            "SELECT id, type, body, deliveries FROM event ORDER BY number DESC LIMIT :limit", {"limit": limit}
        )
        return [{**row, "body": json.loads(row["body"])} for row in rows]

    def await_event(self, seconds: float) -> None:
        """There may be something to tell, or so much time is over."""
        self._has_events.wait(seconds)

    def release(self, claimed: Claimed, outcome: str) -> None:
        """Nothing was done, and the next call under the key may try."""
        with self._transaction() as database:
            database.execute("UPDATE idempotency_key SET is_busy = 0 WHERE key = ?", [claimed.call.key])
            database.execute("UPDATE call SET outcome = ? WHERE number = ?", [outcome, claimed.number])

    def charges(self, *, key: str | None, limit: int) -> list[dict[str, Any]]:
        """The charges under the key, or all; the newest first."""
        return self._rows(
            f"{_CHARGES} WHERE :key IS NULL OR idempotency_key = :key ORDER BY number DESC LIMIT :limit",
            {"key": key, "limit": limit},
        )

    def charge(self, charge_id: str) -> dict[str, Any] | None:
        """The charge of that id."""
        return next(iter(self._rows(f"{_CHARGES} WHERE id = :id", {"id": charge_id})), None)

    def refunds(self, *, key: str | None, limit: int) -> list[dict[str, Any]]:
        """The refunds under the key, or all; the newest first."""
        return self._rows(
            "SELECT id, 'succeeded' AS status, charge, amount, idempotency_key, job, created_at FROM refund"
            " WHERE :key IS NULL OR idempotency_key = :key ORDER BY number DESC LIMIT :limit",
            {"key": key, "limit": limit},
        )

    def calls(self, *, key: str | None, limit: int) -> list[dict[str, Any]]:
        """The latest calls under the key, or all; in the order in which they came."""
        latest = self._rows(
            "SELECT key, job, fence, at, outcome FROM call"
            " WHERE :key IS NULL OR key = :key ORDER BY number DESC LIMIT :limit",
            {"key": key, "limit": limit},
        )
        return latest[::-1]

    def stats(self) -> dict[str, Any]:
        """How often the provider was called, and what came of it."""
        [counts] = self._rows(
            "SELECT (SELECT count(*) FROM call) AS calls, (SELECT count(*) FROM charge) AS charges,"
            " (SELECT coalesce(sum(amount), 0) FROM charge) AS charged_amount,"
            " (SELECT count(*) FROM refund) AS refunds, (SELECT coalesce(sum(amount), 0) FROM refund) AS refunded_amount,"
            " (SELECT count(*) FROM idempotency_key WHERE status >= 400) AS refusals,"
            " (SELECT count(*) FROM call WHERE outcome = 'replayed') AS replays",
            {},
        )
        return counts

    def _note(self, call: Call, outcome: str) -> int:
        """The number of the call, now in the list of calls."""
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
        """All or nothing, written when the block is left. BEGIN IMMEDIATE: no read grows into a write."""
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            yield self._database


def now() -> str:
    """This moment, as the book writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
