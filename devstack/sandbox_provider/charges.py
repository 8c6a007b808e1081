"""Answers to calls: the stored answer of the key, or a decision that is stored before it is sent.

The source decides how the provider behaves, as test cards do elsewhere; any other source is charged normally. A charge's source
also decides about later calls on the charge: `tok_capture_declined`, `tok_refund_cut`, `tok_cancel_silent` and so on.
"""

from __future__ import annotations

import secrets
import time
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from devstack.sandbox_provider.events import insert_event
from devstack.sandbox_provider.requests import (
    Answer,
    CancelRequest,
    CaptureRequest,
    ChargeRequest,
    Decision,
    RefundRequest,
    problem,
    to_json,
)
from devstack.sandbox_provider.store import Claimed, KeyInUse, KeyReused, Replayed, now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from devstack.sandbox_provider.requests import Call
    from devstack.sandbox_provider.store import Store

# Refused with 402, stored: the source, and the refusal's code and message.
REFUSALS = {
    "tok_declined": ("card_declined", "The card was declined."),
    "tok_insufficient_funds": ("insufficient_funds", "There is not enough money in the account."),
}
SLOW = "tok_slow"  # waits before it charges
SILENT = "tok_timeout_after_charge"  # charges, then never answers
CUT = "tok_cut"  # charges, then closes the connection without an answer
FAILS_FIRST = "tok_500_then_ok"  # answers the first call with 500, without a charge
LIMITED_FIRST = "tok_429_then_ok"  # answers the first call with 429, without a charge


class NoAnswer(Enum):
    """Send nothing, and either keep the connection open or close it."""

    KEEP_OPEN = auto()
    CLOSE = auto()


_OK = 200
_CHARGE_MEMBERS = ("id", "status", "amount", "currency")
_INSERT_CHARGE = """
    INSERT INTO charge (id, idempotency_key, status, amount, currency, description, job, created_at, source)
    VALUES (:id, :key, :status, :amount, :currency, :description, :job, :at, :source)"""
_SET_STATUS = "UPDATE charge SET status = :status WHERE id = :id"
_INSERT_REFUND = """
    INSERT INTO refund (id, charge, idempotency_key, amount, job, created_at)
    VALUES (:id, :charge, :key, :amount, :job, :at)"""
_WITHOUT_ANSWER: Mapping[str, tuple[str, NoAnswer]] = {
    SILENT: ("charged_then_silent", NoAnswer.KEEP_OPEN),
    CUT: ("charged_then_cut", NoAnswer.CLOSE),
}


class ChargeService:
    """Answers calls and stores what they did."""

    def __init__(self, store: Store, *, slow_seconds: float) -> None:
        self.store = store
        self._slow_seconds = slow_seconds

    def handle(self, call: Call) -> Answer | NoAnswer:
        """Carry out the call once for its key and return the answer."""
        match self.store.claim(call):
            case Replayed(answer):
                return Answer(answer.status, answer.body, {"Idempotent-Replayed": "true"})
            case KeyReused():
                return problem(422, "idempotency_key_reused", "The key belongs to another request.")
            case KeyInUse():
                return problem(409, "key_in_use", "Another call is running under this key.", retry_after=1)
            case Claimed() as claimed:
                return self._carry_out(claimed)

    def _carry_out(self, claimed: Claimed) -> Answer | NoAnswer:
        match claimed.call.request:
            case ChargeRequest() as request:
                return self._charge_or_refuse(claimed, request)
            case CaptureRequest(charge):
                return self._change(claimed, "capture", charge, partial(_capture, claimed.call))
            case CancelRequest(charge):
                return self._change(claimed, "cancel", charge, _cancel)
            case RefundRequest(charge, amount):
                return self._change(claimed, "refund", charge, partial(_refund, claimed.call, amount))
        raise TypeError(claimed.call.request)

    def _charge_or_refuse(self, claimed: Claimed, request: ChargeRequest) -> Answer | NoAnswer:
        source = request.source
        if claimed.is_first and source == FAILS_FIRST:
            self.store.release(claimed, "failed")
            return problem(500, "internal_error", "An internal error occurred.")
        if claimed.is_first and source == LIMITED_FIRST:
            self.store.release(claimed, "rate_limited")
            return problem(429, "rate_limited", "Too many calls.", retry_after=1)
        if source in REFUSALS:
            return self.store.settle(claimed, _refusal(402, *REFUSALS[source]))
        if source == SLOW:
            # Wait before the charge: a client that timed out and looks the charge up finds none, and afterwards
            # the charge is made.
            time.sleep(self._slow_seconds)
        return self._charge(claimed, request)

    def _charge(self, claimed: Claimed, request: ChargeRequest) -> Answer | NoAnswer:
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
        document = {name: values[name] for name in _CHARGE_MEMBERS}
        answer = Answer(_OK, to_json(document))
        # Only the first call gets no answer: a repeat finds the stored one.
        outcome, reply = _WITHOUT_ANSWER.get(request.source, ("charged", answer))
        writes = [(_INSERT_CHARGE, values)]
        if request.capture:
            writes.append(_event("charge.succeeded", claimed.call, document))
        self.store.settle(claimed, Decision(answer, outcome, writes))
        return reply

    def _change(
        self, claimed: Claimed, kind: str, charge: str, decide: Callable[[dict[str, Any]], Decision]
    ) -> Answer | NoAnswer:
        """Change the charge, unless it does not exist, or its source or `decide` refuses."""
        source = ""

        def decide_on(found: dict[str, Any] | None) -> Decision:
            nonlocal source
            if found is None:
                return _refusal(404, "no_such_charge", "There is no such charge.")
            source = found["source"]
            if source == f"tok_{kind}_declined":
                return _refusal(402, f"{kind}_declined", f"The {kind} was declined.")
            return decide(found)

        answer = self.store.settle_on_charge(claimed, charge, decide_on)
        if answer.status == _OK and source == f"tok_{kind}_cut":
            return NoAnswer.CLOSE
        if answer.status == _OK and source == f"tok_{kind}_silent":
            return NoAnswer.KEEP_OPEN
        return answer


def _capture(call: Call, charge: dict[str, Any]) -> Decision:
    if charge["status"] != "authorized":
        return _refusal(400, "charge_not_authorized", f"The charge is {charge['status']}.")
    document = {name: charge[name] for name in _CHARGE_MEMBERS} | {"status": "succeeded"}
    writes = [(_SET_STATUS, document), _event("charge.succeeded", call, document)]
    return Decision(Answer(_OK, to_json(document)), "captured", writes)


def _cancel(charge: dict[str, Any]) -> Decision:
    if charge["status"] != "authorized":
        return _refusal(400, "charge_not_authorized", f"The charge is {charge['status']}.")
    document = {name: charge[name] for name in _CHARGE_MEMBERS} | {"status": "canceled"}
    return Decision(Answer(_OK, to_json(document)), "canceled", [(_SET_STATUS, document)])


def _refund(call: Call, amount: int, charge: dict[str, Any]) -> Decision:
    left = charge["amount"] - charge["refunded"] if charge["status"] == "succeeded" else 0
    if amount > left:
        return _refusal(400, "refund_exceeds_charge", f"Of the charge {left} can be given back.")
    document = {
        "id": f"re_{secrets.token_hex(12)}",
        "status": "succeeded",
        "charge": charge["id"],
        "amount": amount,
        "currency": charge["currency"],
    }
    values = {**document, "key": call.key, "job": call.job, "at": now()}
    writes = [(_INSERT_REFUND, values), _event("charge.refunded", call, document)]
    return Decision(Answer(_OK, to_json(document)), "refunded", writes)


def _event(kind: str, call: Call, document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return insert_event(kind, document, key=call.key, job=call.job)


def _refusal(status: int, code: str, message: str) -> Decision:
    return Decision(problem(status, code, message), "declined")
