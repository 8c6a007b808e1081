"""Calls to the payment provider. Every error states whether money may have been taken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx2
from django.conf import settings

from jobs.operations import EffectNotDone, RetryableError
from operations import CALL_SLACK
from operations.http_client import NoResponse, NotSent, Response, parse_retry_after, send
from operations.payments.provider_responses import (
    OutcomeUncertain,
    error_from,
    read_charge,
    read_document,
    read_refund,
    single_entry,
)

if TYPE_CHECKING:
    from jobs.operations import JobHandle

T = TypeVar("T")

# How long the provider remembers an idempotency key.
KEY_WINDOW = timedelta(hours=24)


def call_timeout() -> timedelta:
    """Return how long one call may take, with the slack around it."""
    return timedelta(seconds=settings.PAYMENT_PROVIDER_TIMEOUT_SECONDS) + CALL_SLACK


def provider_for(job: JobHandle) -> PaymentProvider:
    """Return the configured provider for this attempt of the job."""
    return PaymentProvider(
        settings.PAYMENT_PROVIDER_URL,
        settings.PAYMENT_PROVIDER_KEY,
        job_id=job.id,
        fence=job.fence,
        timeout=timedelta(seconds=settings.PAYMENT_PROVIDER_TIMEOUT_SECONDS),
    )


class PaymentProvider:
    """The payment provider, called for one attempt of one job; every call names both (X-Job, X-Fence).

    Calls that change something take effect once per key. They raise EffectRefused (the provider refuses), EffectNotDone (this
    call did nothing) or OutcomeUncertain (anything else). Calls that only read raise RetryableError if there is no
    response, or if it does not answer the look-up.
    not settle the question, and for none. The constructor raises RetryableError if the URL or the key is unusable: no effect has
    begun, and a corrected setting lets the job succeed.
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
        self,
        *,
        amount: int,
        currency: str,
        source: str,
        description: str | None = None,
        capture: bool = True,
        idempotency_key: str,
    ) -> dict[str, Any]:
        """Take the money, or without ``capture`` only authorize it. Return id, status, amount and currency."""
        body: dict[str, Any] = {"amount": amount, "currency": currency, "source": source}
        if description is not None:
            body["description"] = description
        if not capture:
            body["capture"] = False
        status = "succeeded" if capture else "authorized"
        return self._change("/v1/charges", body, idempotency_key, partial(read_charge, status=status))

    def capture(self, charge_id: str, *, idempotency_key: str) -> dict[str, Any]:
        """Take money that was authorized."""
        return self._change(f"{_charge_path(charge_id)}/capture", {}, idempotency_key, read_charge)

    def cancel(self, charge_id: str, *, idempotency_key: str) -> dict[str, Any]:
        """Release money that was authorized."""
        read = partial(read_charge, status="canceled")
        return self._change(f"{_charge_path(charge_id)}/cancel", {}, idempotency_key, read)

    def refund(self, charge_id: str, *, amount: int, idempotency_key: str) -> dict[str, Any]:
        """Return this amount of a charge to the customer. Return id, status, charge and amount."""
        body = {"charge": charge_id, "amount": amount}
        return self._change("/v1/refunds", body, idempotency_key, read_refund)

    def find_charge(self, idempotency_key: str, *, status: str = "succeeded") -> dict[str, Any] | None:
        """Return the charge made under the key; None only if the provider explicitly lists none."""
        return self._find("/v1/charges", idempotency_key, partial(read_charge, status=status))

    def find_refund(self, idempotency_key: str) -> dict[str, Any] | None:
        """Return the refund made under the key; None only if the provider explicitly lists none."""
        return self._find("/v1/refunds", idempotency_key, read_refund)

    def find_charge_in_status(self, charge_id: str, status: str) -> dict[str, Any] | None:
        """Return the charge if it has this status, otherwise None."""

        def read(document: dict[str, Any]) -> dict[str, Any] | None:
            return read_charge(document, status=status) if document.get("status") == status else None

        return self._get(_charge_path(charge_id), {}, read)

    def _find(self, path: str, key: str, read: Callable[[dict[str, Any]], T]) -> T | None:
        def read_list(document: dict[str, Any]) -> T | None:
            entry = single_entry(document, key)
            return None if entry is None else read(entry)

        return self._get(path, {"idempotency_key": key}, read_list)

    def _change(self, path: str, body: dict[str, Any], key: str, read: Callable[[dict[str, Any]], T]) -> T:
        headers = {**self._headers, "Idempotency-Key": key}
        request = httpx2.Request("POST", f"{self._url}{path}", headers=headers, json=body)
        try:
            response = send(request, timeout=self._timeout)
        except NotSent as error:
            raise EffectNotDone(
                f"The payment provider could not be reached ({error}).", code="provider_unreachable"
            ) from error
        except NoResponse as error:
            raise OutcomeUncertain(f"The payment provider did not answer ({error}).", code="provider_silent") from error
        if response.status != httpx2.codes.OK:
            raise error_from(response)
        return _read(response, read, OutcomeUncertain)

    def _get(self, path: str, query: dict[str, str], read: Callable[[dict[str, Any]], T]) -> T:
        request = httpx2.Request("GET", f"{self._url}{path}", params=query, headers=self._headers)
        try:
            response = send(request, timeout=self._timeout)
        except (NotSent, NoResponse) as error:
            raise RetryableError(f"The payment provider did not answer ({error}).", code="provider_silent") from error
        if response.status != httpx2.codes.OK:
            raise RetryableError(
                f"The payment provider answered a look-up with status {response.status}.",
                code="provider_cannot_tell",
                retry_after=parse_retry_after(response.headers.get("Retry-After")),
            )
        return _read(response, read, RetryableError)


def _read(response: Response, read: Callable[[dict[str, Any]], T], unreadable: type[RetryableError]) -> T:
    try:
        return read(read_document(response))
    except ValueError as error:
        raise unreadable(
            f"The payment provider's answer cannot be read: {error}", code="provider_unreadable"
        ) from error


def _charge_path(charge_id: str) -> str:
    """Return the charge's path. The id is quoted, so that it cannot leave its segment."""
    return f"/v1/charges/{quote(charge_id, safe='')}"


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and key == key.strip() != ""


def _misconfigured() -> RetryableError:
    return RetryableError(
        "PAYMENT_PROVIDER_URL must be an http or https URL, and PAYMENT_PROVIDER_KEY a key that fits into a header.",
        code="provider_not_configured",
    )
