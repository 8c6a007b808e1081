"""POST requests to the provider, checked strictly; two equal requests under one key are recognized as such."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The largest amount of one charge, in minor units; far below what SQLite can hold.
MAX_AMOUNT = 99_999_999
MAX_SOURCE, MAX_DESCRIPTION, CURRENCY_LETTERS, MAX_ID = 255, 500, 3, 50


class BadRequest(Exception):  # noqa: N818 - the answer's name
    """The request is invalid: it is answered with 400, and the key stays free."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PostRequest:
    """A requested change."""

    @property
    def canonical(self) -> str:
        """The same text for equal requests, however they are spelled."""
        return json.dumps({"kind": type(self).__name__, **asdict(self)}, sort_keys=True)  # type: ignore[call-overload]


@dataclass(frozen=True)
class ChargeRequest(PostRequest):
    """Take money, or without ``capture`` authorize it."""

    amount: int
    currency: str
    source: str
    description: str | None = None
    capture: bool = True


@dataclass(frozen=True)
class CaptureRequest(PostRequest):
    """Take money that was authorized."""

    charge: str


@dataclass(frozen=True)
class CancelRequest(PostRequest):
    """Release money that was authorized."""

    charge: str


@dataclass(frozen=True)
class RefundRequest(PostRequest):
    """Give back all or part of a charge."""

    charge: str
    amount: int


@dataclass(frozen=True)
class Call:
    """A request under its key, with the job and the fence that its headers name."""

    key: str
    request: PostRequest
    job: str | None
    fence: str | None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. Status and body are stored under the key, headers are not."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The answer to a call, and the statements that carry it out."""

    answer: Answer
    outcome: str
    writes: Sequence[tuple[str, dict[str, Any]]] = ()


def to_json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def problem(status: int, code: str, message: str, *, retry_after: int | None = None) -> Answer:
    """Return an error in the provider's format."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Answer(status, to_json({"error": {"code": code, "message": message}}), headers)


def parse_request(path: str, body: bytes) -> PostRequest | None:
    """Return the request for this path; None if there is no such path. Raises BadRequest."""
    match path.split("/")[1:]:
        case ["v1", "charges"]:
            return _parse_charge(body)
        case ["v1", "refunds"]:
            document = _members_of(RefundRequest, body)
            return RefundRequest(charge=_text(document, "charge", MAX_ID), amount=_amount(document))
        case ["v1", "charges", charge, "capture"]:
            _require_empty(body)
            return CaptureRequest(charge)
        case ["v1", "charges", charge, "cancel"]:
            _require_empty(body)
            return CancelRequest(charge)
    return None


def _parse_charge(body: bytes) -> ChargeRequest:
    document = _members_of(ChargeRequest, body)
    if document.get("description") is not None:
        _text(document, "description", MAX_DESCRIPTION)
    if not isinstance(document.get("capture", True), bool):
        raise BadRequest("parameter_invalid", "capture must be true or false.")
    currency = _text(document, "currency", CURRENCY_LETTERS)
    if not (len(currency) == CURRENCY_LETTERS and currency.isascii() and currency.isalpha() and currency.islower()):
        raise BadRequest("parameter_invalid", "currency must be three lower-case letters.")
    return ChargeRequest(
        amount=_amount(document),
        currency=currency,
        source=_text(document, "source", MAX_SOURCE),
        description=document.get("description"),
        capture=document.get("capture", True),
    )


def _require_empty(body: bytes) -> None:
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
    # Not isinstance: True is an int in Python.
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
        raise BadRequest("parameter_invalid", f"{name} contains a lone surrogate.") from None
    return text
