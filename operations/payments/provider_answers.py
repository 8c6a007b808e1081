"""What the payment provider's answers say: of a change, whether it took place; of a document, what it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobs.operations import EffectNotDone, EffectRefused, PermanentError, RetryableError
from operations.http.retry_after import parse_retry_after

if TYPE_CHECKING:
    from operations.http.deadline import Answer

# The provider's code for "this key belongs to another request".
KEY_REUSED = "idempotency_key_reused"
# Characters of a code of the provider's that we pass on.
_CODE_MAX = 100


class MaybeSent(RetryableError):  # noqa: N818 - a fact about the money
    """The provider may have taken the money or not: no answer says which."""


def meaning_of(answer: Answer) -> PermanentError | RetryableError:
    """What an answer other than 200 says of the charge. In doubt unless it certainly says something else."""
    code, message = _error(answer)
    retry_after = parse_retry_after(answer.headers.get("Retry-After"))
    match answer.status:
        case 401 | 403:
            # Our key is wrong, not the charge: worth another try once somebody has put it right.
            return EffectNotDone(
                f"The payment provider refused our key ({message}); see PAYMENT_PROVIDER_KEY.",
                code="provider_unauthorized",
                retry_after=retry_after,
            )
        case 404 | 405 if code is None:
            # Not the provider's own words: somebody else answers at that address.
            return EffectNotDone(
                f"There is no payment provider at its address ({message}); see PAYMENT_PROVIDER_URL.",
                code="provider_not_found",
            )
        case 429:
            return EffectNotDone(message, code="provider_busy", retry_after=retry_after)
        case 400 | 402 | 404 | 422 if code is not None and code != KEY_REUSED:
            return EffectRefused(message, code=code)
        case _:
            # 409: another call is at work under the key. 5xx: it may have broken after the charge. A reused key: our body
            # changed between attempts, and the earlier one may have been charged. An unreadable refusal: a proxy's?
            return MaybeSent(message, code=code or "provider_failed", retry_after=retry_after)


def _error(answer: Answer) -> tuple[str | None, str]:
    """The provider's code, where the answer is in its form, and a message for a person."""
    message = f"The payment provider answered {answer.status}."
    try:
        error = read_document(answer).get("error")
    except ValueError:
        return None, message
    if not isinstance(error, dict) or not isinstance(code := error.get("code"), str) or not code:
        return None, message
    text = error.get("message")
    return code[:_CODE_MAX], text if isinstance(text, str) and text else message


def read_document(answer: Answer) -> dict[str, Any]:
    """The answer's JSON object. Raises ValueError."""
    try:
        document = json.loads(answer.body)
    except RecursionError:
        raise ValueError("it is nested too deeply.") from None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object.")  # noqa: TRY004 - one kind of error for every malformed answer
    return document


def read_charge(document: dict[str, Any], *, status: str = "succeeded") -> dict[str, Any]:
    """The charge's four members and no others. Raises ValueError unless it is a charge of that status."""
    charge = {name: document.get(name) for name in ("id", "status", "amount", "currency")}
    if not (isinstance(charge["id"], str) and charge["id"]):
        raise ValueError("the charge has no id.")
    if charge["status"] != status:
        raise ValueError(
            f"the charge has not {status}." if status == "succeeded" else f"the charge is not {status}."
        )
    if type(charge["amount"]) is not int or not isinstance(charge["currency"], str):
        raise ValueError("the charge has no amount or no currency.")
    return charge


def read_refund(document: dict[str, Any]) -> dict[str, Any]:
    """The refund's four members and no others. Raises ValueError unless it is a refund that succeeded."""
    refund = {name: document.get(name) for name in ("id", "status", "charge", "amount")}
    if not (isinstance(refund["id"], str) and refund["id"] and isinstance(refund["charge"], str)):
        raise ValueError("the refund has no id or no charge.")
    if refund["status"] != "succeeded" or type(refund["amount"]) is not int:
        raise ValueError("the refund has not succeeded, or has no amount.")
    return refund


def read_only(document: dict[str, Any], idempotency_key: str) -> dict[str, Any] | None:
    """The one thing in a list that was made under the key, or None for an empty list. Raises ValueError for anything else."""
    found = document.get("data")
    if not isinstance(found, list):
        raise ValueError("it holds no list.")  # noqa: TRY004 - see above
    if not found:
        return None
    if len(found) > 1:
        raise ValueError("there are several charges under one key.")
    [one] = found
    # A provider that does not know the filter would give us somebody else's charge.
    if not isinstance(one, dict) or one.get("idempotency_key", idempotency_key) != idempotency_key:
        raise ValueError("it is not the charge that was asked for.")
    return one
