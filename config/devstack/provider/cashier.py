"""What a call gets: the stored answer under its key, or a decision that is stored before it is told.

The source decides how the provider behaves, as test cards do elsewhere; any other is charged without ado.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from config.devstack.provider.claims import Answer, Call, Claimed, KeyInUse, KeyReused, Replayed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.devstack.provider.book import Book

DECLINED = "tok_declined"  # 402, stored
SLOW = "tok_slow"  # the answer takes its time
SILENT = "tok_timeout_after_charge"  # takes the money, then never answers
CUT = "tok_cut"  # takes the money, then closes the connection without an answer
FAILS_FIRST = "tok_500_then_ok"  # the first call: 500, and nothing is taken
LIMITED_FIRST = "tok_429_then_ok"  # the first call: 429, and nothing is taken


@dataclass(frozen=True)
class Reply:
    """An answer that is sent."""

    answer: Answer
    headers: Mapping[str, str] = field(default_factory=dict)


class Silence:
    """No answer; the connection stays open."""


class Hangup:
    """No answer; the connection is closed."""


_AFTERWARDS: Mapping[str, tuple[str, Silence | Hangup]] = {
    SILENT: ("charged_then_silent", Silence()),
    CUT: ("charged_then_cut", Hangup()),
}


class Cashier:
    """Decides, with the book's help."""

    def __init__(self, book: Book, *, slow_seconds: float) -> None:
        self.book = book
        self._slow_seconds = slow_seconds

    def take(self, call: Call) -> Reply | Silence | Hangup:
        """The call has its answer; what it did is in the book."""
        match self.book.claim(call):
            case Replayed(answer):
                return Reply(answer, {"Idempotent-Replayed": "true"})
            case KeyReused():
                return problem(422, "idempotency_key_reused", "The key belongs to another request.")
            case KeyInUse():
                return problem(409, "key_in_use", "Another call is at work under this key.", retry_after=1)
            case Claimed() as claimed:
                return self._decide(claimed)

    def _decide(self, claimed: Claimed) -> Reply | Silence | Hangup:
        source = claimed.call.request.source
        if claimed.is_first and source == FAILS_FIRST:
            self.book.release(claimed, "failed")
            return problem(500, "internal_error", "Something went wrong here.")
        if claimed.is_first and source == LIMITED_FIRST:
            self.book.release(claimed, "rate_limited")
            return problem(429, "rate_limited", "Too many calls.", retry_after=1)
        if source == DECLINED:
            refusal = problem(402, "card_declined", "The card was declined.")
            self.book.settle(claimed, refusal.answer, "declined")
            return refusal
        if source == SLOW:
            # Before the charge: a client that gave up and asks is told "no", and then the money is taken.
            time.sleep(self._slow_seconds)
        return self._charge(claimed)

    def _charge(self, claimed: Claimed) -> Reply | Silence | Hangup:
        request = claimed.call.request
        charge_id = f"ch_{secrets.token_hex(12)}"
        answer = Answer(
            200,
            to_json(
                {
                    "id": charge_id,
                    "status": "succeeded",
                    "amount": request.amount,
                    "currency": request.currency,
                }
            ),
        )
        # A repeat never comes here: after a silent or cut call it finds the answer stored.
        outcome, reply = _AFTERWARDS.get(request.source, ("charged", Reply(answer)))
        self.book.settle(claimed, answer, outcome, charge_id=charge_id)
        return reply


def problem(status: int, code: str, message: str, *, retry_after: int | None = None) -> Reply:
    """An error in the provider's form."""
    answer = Answer(status, to_json({"error": {"code": code, "message": message}}))
    return Reply(answer, {} if retry_after is None else {"Retry-After": str(retry_after)})


def to_json(document: object) -> bytes:
    """The document as it goes over the wire."""
    return json.dumps(document, separators=(",", ":")).encode()
