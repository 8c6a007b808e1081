"""The payment provider. What matters most is to say truly whether money may have been taken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2

from jobs.operations import EffectNotDone, EffectRefused, PermanentError, RetryableError
from workers.gateways.deadline import Answer, NoAnswer, NotSent, send
from workers.gateways.retry_after import parse_retry_after

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

# The provider's code for "this key belongs to another request".
KEY_REUSED = "idempotency_key_reused"
# Characters of a code of the provider's that we pass on.
_CODE_MAX = 100


class MaybeSent(RetryableError):  # noqa: N818 - a fact about the charge
    """The provider may have taken the money or not: no answer says which."""


class PaymentProvider:
    """The provider as one attempt of one job sees it; both are named in every call (X-Job, X-Fence).

    Raises RetryableError where the address or the key cannot be used: before any effect begins, and a repair helps.
    """

    def __init__(self, base_url: str, key: str, job_id: UUID, fence: int, timeout: timedelta) -> None:
        try:
            self._url = httpx2.URL(base_url.rstrip("/"))
        except httpx2.InvalidURL as error:
            raise _misconfigured() from error
        if self._url.scheme not in {"http", "https"} or not self._url.host or not _fits_a_header(key):
            raise _misconfigured()
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": "semel",
            "X-Job": str(job_id),
            "X-Fence": str(fence),
        }
        self._timeout = timeout

    def charge(
        self, *, amount: int, currency: str, source: str, description: str | None = None, idempotency_key: str
    ) -> dict[str, Any]:
        """The money is taken, once for the key: id, status, amount, currency.

        Raises EffectRefused (the provider will not), EffectNotDone (this call did nothing) or MaybeSent (anything else).
        """
        body = {"amount": amount, "currency": currency, "source": source}
        if description is not None:
            body["description"] = description
        headers = {**self._headers, "Idempotency-Key": idempotency_key}
        request = httpx2.Request("POST", f"{self._url}/v1/charges", headers=headers, json=body)
        try:
            answer = send(request, timeout=self._timeout)
        except NotSent as error:
            raise EffectNotDone(
                f"The payment provider could not be reached ({error}).", code="provider_unreachable"
            ) from error
        except NoAnswer as error:
            raise MaybeSent(
                f"The payment provider did not answer ({error}).", code="provider_silent"
            ) from error
        if answer.status != httpx2.codes.OK:
            raise _meaning_of(answer)
        try:
            return _charge(_document(answer))
        except ValueError as error:
            raise MaybeSent(
                f"The provider's answer makes no sense: {error}", code="provider_unreadable"
            ) from error

    def find_charge(self, idempotency_key: str) -> dict[str, Any] | None:
        """The charge that was made under the key; None only where the provider says, in so many words, that there is none.

        Raises RetryableError for every other answer, and for none.
        """
        query = {"idempotency_key": idempotency_key}
        request = httpx2.Request("GET", f"{self._url}/v1/charges", params=query, headers=self._headers)
        try:
            answer = send(request, timeout=self._timeout)
        except (NotSent, NoAnswer) as error:
            raise RetryableError(
                f"The payment provider did not answer ({error}).", code="provider_silent"
            ) from error
        if answer.status != httpx2.codes.OK:
            raise RetryableError(
                f"The payment provider answered {answer.status} when asked for a charge.",
                code="provider_cannot_tell",
                retry_after=parse_retry_after(answer.headers.get("Retry-After")),
            )
        try:
            return _only_charge(_document(answer), idempotency_key)
        except ValueError as error:
            raise RetryableError(
                f"The provider's answer makes no sense: {error}", code="provider_unreadable"
            ) from error


def _meaning_of(answer: Answer) -> PermanentError | RetryableError:
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
        error = _document(answer).get("error")
    except ValueError:
        return None, message
    if not isinstance(error, dict) or not isinstance(code := error.get("code"), str) or not code:
        return None, message
    text = error.get("message")
    return code[:_CODE_MAX], text if isinstance(text, str) and text else message


def _document(answer: Answer) -> dict[str, Any]:
    """The answer's JSON object. Raises ValueError."""
    try:
        document = json.loads(answer.body)
    except RecursionError:
        raise ValueError("it is nested too deeply.") from None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object.")  # noqa: TRY004 - one kind of error for every malformed answer
    return document


def _charge(document: dict[str, Any]) -> dict[str, Any]:
    """The charge's four members and no others. Raises ValueError unless it is a charge that succeeded."""
    charge = {name: document.get(name) for name in ("id", "status", "amount", "currency")}
    if not (isinstance(charge["id"], str) and charge["id"]):
        raise ValueError("the charge has no id.")
    if charge["status"] != "succeeded":
        raise ValueError("the charge has not succeeded.")
    if type(charge["amount"]) is not int or not isinstance(charge["currency"], str):
        raise ValueError("the charge has no amount or no currency.")
    return charge


def _only_charge(document: dict[str, Any], idempotency_key: str) -> dict[str, Any] | None:
    """The one charge in a list, or None for an empty list. Raises ValueError for anything else."""
    found = document.get("data")
    if not isinstance(found, list):
        raise ValueError("it holds no list.")  # noqa: TRY004 - see above
    if not found:
        return None
    if len(found) > 1:
        raise ValueError("there are several charges under one key.")
    [charge] = found
    # A provider that does not know the filter would give us somebody else's charge.
    if not isinstance(charge, dict) or charge.get("idempotency_key", idempotency_key) != idempotency_key:
        raise ValueError("it is not the charge that was asked for.")
    return _charge(charge)


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and key == key.strip() != ""


def _misconfigured() -> RetryableError:
    return RetryableError(
        "PAYMENT_PROVIDER_URL must be an http or https address, and PAYMENT_PROVIDER_KEY the key that it wants.",
        code="provider_not_configured",
    )
