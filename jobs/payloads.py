"""The stored form of params, results and errors: one version byte, then JSON text.

The version byte makes it possible to add encryption without a migration. The column is bytea, not jsonb: jsonb stores the 8 bytes
`1e131071` as 131 kB, and accepts numbers that it cannot return.
"""

import json
from decimal import Decimal
from typing import Any

from foundation import exact_json

_PLAIN = b"\x01"
# Characters of a foreign message that are kept: enough to recognise it, too few to fill a table.
_TEXT_MAX = 2_000


def encode_payload(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the value as stored. Raises TypeError or ValueError for what JSON cannot hold."""
    return _PLAIN + exact_json.dumps(value)


def payload_json(payload: bytes | memoryview) -> bytes:
    """Return the stored JSON text for a response, not parsed, so that every number stays exact."""
    data = bytes(payload)
    if data[:1] != _PLAIN:
        raise ValueError(f"Payload version {data[:1].hex()} is unknown to this release.")
    return data[1:]


def decode_payload(payload: bytes | memoryview) -> Any:  # noqa: ANN401 - any JSON value
    """Return the stored value. The limits on a client's JSON are checked when it is parsed, not here."""
    return json.loads(payload_json(payload), parse_float=_exact)


def describe_failure(code: str, detail: str, *, cause: str | None = None) -> dict[str, str]:
    """Return the error of a job or attempt to store; api/problem_catalogue.py has the title and retryability of each code.

    cause: the operation's or the downstream's own code, such as `card_declined`.
    """
    error = {"code": code, "detail": printable(detail)}
    return error if cause is None else {**error, "cause": printable(cause)}


def printable(text: str) -> str:
    """Return the text as jsonb and UTF-8 can hold it: no U+0000, no lone surrogate, not too long."""
    return text[:_TEXT_MAX].replace("\x00", "").encode("utf-8", "replace").decode()


def _exact(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number
