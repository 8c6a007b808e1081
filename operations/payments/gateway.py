"""The payment provider. What matters most is to say truly whether money may have been taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx2

from jobs.operations import EffectNotDone, RetryableError
from operations.http.deadline import Answer, NoAnswer, NotSent, send
from operations.http.retry_after import parse_retry_after
from operations.payments.provider_answers import (
    MaybeSent,
    meaning_of,
    read_charge,
    read_document,
    read_only,
    read_refund,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from uuid import UUID

T = TypeVar("T")


class PaymentProvider:
    """The provider as one attempt of one job sees it; both are named in every call (X-Job, X-Fence).

    What changes something happens once for its key. It raises EffectRefused (the provider will not), EffectNotDone (this call
    did nothing) or MaybeSent (anything else). What only asks raises RetryableError for every answer that does not tell, and for
    none. RetryableError, too, where the address or the key cannot be used: before any effect begins, and a repair helps.
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
        """The money is taken: id, status, amount, currency."""
        body = _order(amount, currency, source, description)
        return self._change("/v1/charges", body, idempotency_key, read_charge)

    def authorize(
        self, *, amount: int, currency: str, source: str, description: str | None = None, idempotency_key: str
    ) -> dict[str, Any]:
        """The money is set aside, to be captured or let go: as `charge`, authorized."""
        body = {**_order(amount, currency, source, description), "capture": False}
        return self._change(
            "/v1/charges", body, idempotency_key, lambda document: read_charge(document, status="authorized")
        )

    def capture(self, charge_id: str, *, idempotency_key: str) -> dict[str, Any]:
        """The money that was set aside is taken."""
        return self._change(f"{_charge_path(charge_id)}/capture", {}, idempotency_key, read_charge)

    def cancel(self, charge_id: str, *, idempotency_key: str) -> dict[str, Any]:
        """The money that was set aside is let go."""
        return self._change(
            f"{_charge_path(charge_id)}/cancel",
            {},
            idempotency_key,
            lambda document: read_charge(document, status="canceled"),
        )

    def refund(self, charge_id: str, *, amount: int, idempotency_key: str) -> dict[str, Any]:
        """So much of what was taken is given back: id, status, charge, amount."""
        body = {"charge": charge_id, "amount": amount}
        return self._change("/v1/refunds", body, idempotency_key, read_refund)

    def find_charge(self, idempotency_key: str, *, status: str = "succeeded") -> dict[str, Any] | None:
        """The charge that was made under the key; None only where the provider says, in so many words, that there is none."""

        def read(document: dict[str, Any]) -> dict[str, Any] | None:
            charge = read_only(document, idempotency_key)
            return None if charge is None else read_charge(charge, status=status)

        return self._ask("/v1/charges", {"idempotency_key": idempotency_key}, read)

    def find_refund(self, idempotency_key: str) -> dict[str, Any] | None:
        """The refund that was made under the key, or None, as with a charge."""

        def read(document: dict[str, Any]) -> dict[str, Any] | None:
            refund = read_only(document, idempotency_key)
            return None if refund is None else read_refund(refund)

        return self._ask("/v1/refunds", {"idempotency_key": idempotency_key}, read)

    def charge_if(self, charge_id: str, *, status: str) -> dict[str, Any] | None:
        """The charge of that id if it has come to this status; None while it has not."""

        def read(document: dict[str, Any]) -> dict[str, Any] | None:
            return read_charge(document, status=status) if document.get("status") == status else None

        return self._ask(_charge_path(charge_id), {}, read)

    def _change(self, path: str, body: dict[str, Any], key: str, read: Callable[[dict[str, Any]], T]) -> T:
        headers = {**self._headers, "Idempotency-Key": key}
        request = httpx2.Request("POST", f"{self._url}{path}", headers=headers, json=body)
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
            raise meaning_of(answer)
        return _read(answer, read, MaybeSent)

    def _ask(self, path: str, query: dict[str, str], read: Callable[[dict[str, Any]], T]) -> T:
        request = httpx2.Request("GET", f"{self._url}{path}", params=query, headers=self._headers)
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
        return _read(answer, read, RetryableError)


def _read(answer: Answer, read: Callable[[dict[str, Any]], T], unreadable: type[RetryableError]) -> T:
    try:
        return read(read_document(answer))
    except ValueError as error:
        raise unreadable(
            f"The provider's answer makes no sense: {error}", code="provider_unreadable"
        ) from error


def _charge_path(charge_id: str) -> str:
    """Where the charge is found; whatever its id is made of stays within its segment."""
    return f"/v1/charges/{quote(charge_id, safe='')}"


def _order(amount: int, currency: str, source: str, description: str | None) -> dict[str, Any]:
    order = {"amount": amount, "currency": currency, "source": source}
    return order if description is None else {**order, "description": description}


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and key == key.strip() != ""


def _misconfigured() -> RetryableError:
    return RetryableError(
        "PAYMENT_PROVIDER_URL must be an http or https address, and PAYMENT_PROVIDER_KEY the key that it wants.",
        code="provider_not_configured",
    )
