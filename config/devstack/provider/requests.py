"""The body of POST /v1/charges: checked strictly, and comparable with an earlier one under the same key."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

# The most that the provider takes at once, in minor units; also far below what SQLite can hold.
MAX_AMOUNT = 99_999_999
MAX_SOURCE, MAX_DESCRIPTION, CURRENCY_LETTERS = 255, 500, 3


class BadRequest(Exception):  # noqa: N818 - the answer's name
    """The request is wrong in itself: 400, and the key stays free."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ChargeRequest:
    """Somebody wants money to be taken."""

    amount: int
    currency: str
    source: str
    description: str | None = None

    @property
    def canonical(self) -> str:
        """Equal for equal requests, whatever their spelling."""
        return json.dumps(asdict(self), sort_keys=True)


def parse_charge(body: bytes) -> ChargeRequest:
    """The request. Raises BadRequest, naming what is wrong."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("invalid_json", "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise BadRequest("invalid_json", "The body is not a JSON object.")
    if unknown := document.keys() - ChargeRequest.__dataclass_fields__.keys():
        raise BadRequest("parameter_unknown", f"Unknown: {', '.join(sorted(unknown))}.")
    if document.get("description") is not None:
        _text(document, "description", MAX_DESCRIPTION)
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
    )


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
