"""What the payment provider's responses mean: whether a change took effect, and what a document contains."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobs.operations import EffectNotDone, EffectRefused, PermanentError, RetryableError
from operations.http_client import parse_retry_after

if TYPE_CHECKING:
    from operations.http_client import Response

# The provider's code for "this key belongs to another request".
KEY_REUSED = "idempotency_key_reused"
# Characters of a provider's code that we pass on.
_CODE_MAX = 100


class OutcomeUncertain(RetryableError):  # noqa: N818 - a fact about the money
    """It is unknown whether the provider made the change."""


def error_from(response: Response) -> PermanentError | RetryableError:
    """Return what a response other than 200 means for a change: uncertain, unless it clearly means something else."""
    code, message = _error(response)
    retry_after = parse_retry_after(response.headers.get("Retry-After"))
    match response.status:
        case 401 | 403:
            # Our key is wrong, not the charge: a retry succeeds after the setting was corrected.
            return EffectNotDone(
                f"The payment provider refused our key ({message}); see PAYMENT_PROVIDER_KEY.",
                code="provider_unauthorized",
                retry_after=retry_after,
            )
        case 404 | 405 if code is None:
            # Not in the provider's error format: another server answers at that address.
            return EffectNotDone(
                f"There is no payment provider at its address ({message}); see PAYMENT_PROVIDER_URL.",
                code="provider_not_found",
            )
        case 429:
            return EffectNotDone(message, code="provider_busy", retry_after=retry_after)
        case 400 | 402 | 404 | 422 if code is not None and code != KEY_REUSED:
            return EffectRefused(message, code=code)
        case _:
            # 409: another call is running under the key. 5xx: the provider may have failed after the charge. A reused key: our
            # body changed between attempts, and the earlier one may have been charged. An unreadable refusal may be a proxy's.
            return OutcomeUncertain(message, code=code or "provider_failed", retry_after=retry_after)


def _error(response: Response) -> tuple[str | None, str]:
    """Return the provider's code, None unless the body has its error format, and a message for a person."""
    message = f"The payment provider answered {response.status}."
    try:
        error = read_document(response).get("error")
    except ValueError:
        return None, message
    if not isinstance(error, dict) or not isinstance(code := error.get("code"), str) or not code:
        return None, message
    text = error.get("message")
    return code[:_CODE_MAX], text if isinstance(text, str) and text else message


def read_document(response: Response) -> dict[str, Any]:
    """Return the response's JSON object. Raises ValueError."""
    try:
        document = json.loads(response.body)
    except RecursionError:
        raise ValueError("it is nested too deeply.") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object.")  # noqa: TRY004 - one kind of error for every malformed response
    return document


def read_charge(document: dict[str, Any], *, status: str = "succeeded") -> dict[str, Any]:
    """Return the charge's four members and no others. Raises ValueError unless it is a charge in that status."""
    charge = {name: document.get(name) for name in ("id", "status", "amount", "currency")}
    if not (isinstance(charge["id"], str) and charge["id"]):
        raise ValueError("the charge has no id.")
    if charge["status"] != status:
        raise ValueError(f"the charge's status is not {status}.")
    if type(charge["amount"]) is not int or not isinstance(charge["currency"], str):
        raise ValueError("the charge has no amount or no currency.")
    return charge


def read_refund(document: dict[str, Any]) -> dict[str, Any]:
    """Return the refund's four members and no others. Raises ValueError unless it is a refund that succeeded."""
    refund = {name: document.get(name) for name in ("id", "status", "charge", "amount")}
    if not (isinstance(refund["id"], str) and refund["id"] and isinstance(refund["charge"], str)):
        raise ValueError("the refund has no id or no charge.")
    if refund["status"] != "succeeded" or type(refund["amount"]) is not int:
        raise ValueError("the refund has not succeeded, or has no amount.")
    return refund


def single_entry(document: dict[str, Any], idempotency_key: str) -> dict[str, Any] | None:
    """Return the only entry of a list filtered by the key, None for an empty list. Raises ValueError for anything else."""
    entries = document.get("data")
    if not isinstance(entries, list):
        raise ValueError("it contains no list.")  # noqa: TRY004 - see above
    if not entries:
        return None
    if len(entries) > 1:
        raise ValueError("there are several entries under one key.")
    [entry] = entries
    # A provider that ignores the filter would return another customer's charge.
    if not isinstance(entry, dict) or entry.get("idempotency_key", idempotency_key) != idempotency_key:
        raise ValueError("it is not the entry of this key.")
    return entry
