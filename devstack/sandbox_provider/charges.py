"""What a call gets: the stored answer under its key, or a decision that is stored before it is told.

The source decides how the provider behaves, as test cards do elsewhere; any other is charged without ado. A charge's source
speaks for what is done to it later, too: `tok_capture_declined`, `tok_refund_cut`, `tok_cancel_silent` and their like.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from devstack.sandbox_provider.claims import Answer, Call, Claimed, Decision, KeyInUse, KeyReused, Replayed
from devstack.sandbox_provider.events import event
from devstack.sandbox_provider.requests import CancelRequest, CaptureRequest, ChargeRequest, RefundRequest
from devstack.sandbox_provider.store import now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from devstack.sandbox_provider.store import Book

# 402, stored: the source, and the code of the refusal.
REFUSALS = {
    "tok_declined": ("card_declined", "The card was declined."),
    "tok_insufficient_funds": ("insufficient_funds", "There is not enough money in the account."),
}
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


_OK = 200
_INSERT_CHARGE = """
    INSERT INTO charge (id, idempotency_key, status, amount, currency, description, job, created_at, source)
    VALUES (:id, :key, :status, :amount, :currency, :description, :job, :at, :source)"""
_SET_STATUS = "UPDATE charge SET status = :status WHERE id = :id"
_INSERT_REFUND = """
    INSERT INTO refund (id, charge, idempotency_key, amount, job, created_at)
    VALUES (:id, :charge, :key, :amount, :job, :at)"""
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
        match claimed.call.request:
            case ChargeRequest() as request:
                return self._charge_or_refuse(claimed, request)
            case CaptureRequest(charge):
                return self._change(claimed, "capture", charge, partial(_captured, claimed.call))
            case CancelRequest(charge):
                return self._change(claimed, "cancel", charge, _canceled)
            case RefundRequest(charge, amount):
                return self._change(claimed, "refund", charge, partial(_refunded, claimed.call, amount))
        raise TypeError(claimed.call.request)

    def _charge_or_refuse(self, claimed: Claimed, request: ChargeRequest) -> Reply | Silence | Hangup:
        source = request.source
        if claimed.is_first and source == FAILS_FIRST:
            self.book.release(claimed, "failed")
            return problem(500, "internal_error", "Something went wrong here.")
        if claimed.is_first and source == LIMITED_FIRST:
            self.book.release(claimed, "rate_limited")
            return problem(429, "rate_limited", "Too many calls.", retry_after=1)
        if source in REFUSALS:
            refusal = problem(402, *REFUSALS[source])
            self.book.settle(claimed, refusal.answer, "declined")
            return refusal
        if source == SLOW:
            # Before the charge: a client that gave up and asks is told "no", and then the money is taken.
            time.sleep(self._slow_seconds)
        return self._charge(claimed, request)

    def _charge(self, claimed: Claimed, request: ChargeRequest) -> Reply | Silence | Hangup:
        values = {
            "id": f"ch_{secrets.token_hex(12)}",
            "key": claimed.call.key,
            "status": "succeeded" if request.capture else "authorized",
            "amount": request.amount,
            "currency": request.currency,
            "description": request.description,
            "job": claimed.call.job,
            "at": now(),
            "source": request.source,
        }
        answer = Answer(200, to_json({name: values[name] for name in ("id", "status", "amount", "currency")}))
        # A repeat never comes here: after a silent or cut call it finds the answer stored.
        outcome, reply = _AFTERWARDS.get(request.source, ("charged", Reply(answer)))
        write = [(_INSERT_CHARGE, values)]
        if request.capture:
            write.append(_told("charge.succeeded", claimed.call, json.loads(answer.body)))
        self.book.settle(claimed, answer, outcome, *write)
        return reply

    def _change(
        self, claimed: Claimed, kind: str, charge: str, decide: Callable[[dict[str, Any]], Decision]
    ) -> Reply | Silence | Hangup:
        """The charge is changed, unless there is none, its source forbids it or `decide` does."""
        sources = []

        def judge(found: dict[str, Any] | None) -> Decision:
            if found is None:
                return _refusal(404, "no_such_charge", "There is no such charge.")
            sources.append(found["source"])
            if found["source"] == f"tok_{kind}_declined":
                return _refusal(402, f"{kind}_declined", f"The {kind} was declined.")
            return decide(found)

        answer = self.book.settle_on(claimed, charge, judge)
        if answer.status == _OK and f"tok_{kind}_cut" in sources:
            return Hangup()
        if answer.status == _OK and f"tok_{kind}_silent" in sources:
            return Silence()
        return Reply(answer)


def _captured(call: Call, charge: dict[str, Any]) -> Decision:
    if charge["status"] != "authorized":
        return _refusal(400, "charge_not_authorized", f"The charge is {charge['status']}.")
    document = {**_face(charge), "status": "succeeded"}
    write = [
        (_SET_STATUS, {"id": charge["id"], "status": "succeeded"}),
        _told("charge.succeeded", call, document),
    ]
    return Decision(Answer(200, to_json(document)), "captured", write)


def _canceled(charge: dict[str, Any]) -> Decision:
    if charge["status"] != "authorized":
        return _refusal(400, "charge_not_authorized", f"The charge is {charge['status']}.")
    answer = Answer(200, to_json({**_face(charge), "status": "canceled"}))
    return Decision(answer, "canceled", [(_SET_STATUS, {"id": charge["id"], "status": "canceled"})])


def _refunded(call: Call, amount: int, charge: dict[str, Any]) -> Decision:
    left = charge["amount"] - charge["refunded"] if charge["status"] == "succeeded" else 0
    if amount > left:
        return _refusal(400, "refund_exceeds_charge", f"Of the charge {left} can be given back.")
    refund_id = f"re_{secrets.token_hex(12)}"
    values = {
        "id": refund_id,
        "charge": charge["id"],
        "key": call.key,
        "amount": amount,
        "job": call.job,
        "at": now(),
    }
    document = {
        "id": refund_id,
        "status": "succeeded",
        "charge": charge["id"],
        "amount": amount,
        "currency": charge["currency"],
    }
    write = [(_INSERT_REFUND, values), _told("charge.refunded", call, document)]
    return Decision(Answer(200, to_json(document)), "refunded", write)


def _told(kind: str, call: Call, document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return event(kind, document, key=call.key, job=call.job)


def _refusal(status: int, code: str, message: str) -> Decision:
    return Decision(problem(status, code, message).answer, "declined")


def _face(charge: dict[str, Any]) -> dict[str, Any]:
    return {name: charge[name] for name in ("id", "status", "amount", "currency")}


def problem(status: int, code: str, message: str, *, retry_after: int | None = None) -> Reply:
    """An error in the provider's form."""
    answer = Answer(status, to_json({"error": {"code": code, "message": message}}))
    return Reply(answer, {} if retry_after is None else {"Retry-After": str(retry_after)})


def to_json(document: object) -> bytes:
    """The document as it goes over the wire."""
    return json.dumps(document, separators=(",", ":")).encode()
