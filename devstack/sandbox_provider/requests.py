"""What is asked for by POST: checked strictly, and comparable with an earlier one under the same key."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

# The most that the provider takes at once, in minor units; also far below what SQLite can hold.
MAX_AMOUNT = 99_999_999
MAX_SOURCE, MAX_DESCRIPTION, CURRENCY_LETTERS, MAX_ID = 255, 500, 3, 50


class BadRequest(Exception):  # noqa: N818 - the answer's name
    """The request is wrong in itself: 400, and the key stays free."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PostRequest:
    """A change that somebody wants."""

    @property
    def canonical(self) -> str:
        """Equal for equal requests, whatever their spelling."""
        return json.dumps({"kind": type(self).__name__, **asdict(self)}, sort_keys=True)  # type: ignore[call-overload]


@dataclass(frozen=True)
class ChargeRequest(PostRequest):
    """Somebody wants money to be taken; or, where it is not to be captured, set aside."""

    amount: int
    currency: str
    source: str
    description: str | None = None
    capture: bool = True


@dataclass(frozen=True)
class CaptureRequest(PostRequest):
    """Money that was set aside is to be taken."""

    charge: str


@dataclass(frozen=True)
class CancelRequest(PostRequest):
    """Money that was set aside is to be let go."""

    charge: str


@dataclass(frozen=True)
class RefundRequest(PostRequest):
    """Money that was taken is to be given back, or a part of it."""

    charge: str
    amount: int


def parse_charge(body: bytes) -> ChargeRequest:
    """The request. Raises BadRequest, naming what is wrong."""
    document = _members_of(ChargeRequest, body)
    if document.get("description") is not None:
        _text(document, "description", MAX_DESCRIPTION)
    if not isinstance(document.get("capture", True), bool):
        raise BadRequest("parameter_invalid", "capture must be true or false.")
    currency = _text(document, "currency", CURRENCY_LETTERS)
    if not (
        len(currency) == CURRENCY_LETTERS and currency.isascii() and currency.isalpha() and currency.islower()
    ):
        raise BadRequest("parameter_invalid", "currency must be three lower-case letters.")
    return ChargeRequest(
        amount=_amount(document),
        currency=currency,
        source=_text(document, "source", MAX_SOURCE),
        description=document.get("description"),
        capture=document.get("capture", True),
    )


def parse_refund(body: bytes) -> RefundRequest:
    """The request. Raises BadRequest, naming what is wrong."""
    document = _members_of(RefundRequest, body)
    return RefundRequest(charge=_text(document, "charge", MAX_ID), amount=_amount(document))


def check_empty(body: bytes) -> None:
    """Nothing is said: what is asked for stands in the path. Raises BadRequest."""
    if body and _object(body):
        raise BadRequest("parameter_unknown", "Send no body, or {}.")


def _members_of(form: type[PostRequest], body: bytes) -> dict[str, Any]:
    document = _object(body)
    if unknown := document.keys() - {field.name for field in fields(form)}:  # type: ignore[arg-type]
        raise BadRequest("parameter_unknown", f"Unknown: {', '.join(sorted(unknown))}.")
    return document


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("invalid_json", "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise BadRequest("invalid_json", "The body is not a JSON object.")
    return document


def _amount(document: dict[str, Any]) -> int:
    amount = document.get("amount")
    # Not isinstance: True is an int to Python.
    if type(amount) is not int or not 1 <= amount <= MAX_AMOUNT:
        raise BadRequest("amount_invalid", f"amount must be a whole number from 1 to {MAX_AMOUNT}.")
    return amount


def _text(document: dict[str, Any], name: str, longest: int) -> str:
    text = document.get(name)
    if not isinstance(text, str) or len(text) > longest or (not text and name != "description"):
        raise BadRequest("parameter_invalid", f"{name} must be a string of at most {longest} characters.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest("parameter_invalid", f"{name} holds half of a character.") from None
    return text
