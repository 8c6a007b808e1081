"""Sealed bytes: one version byte, then JSON. So that encryption can come without a migration, and numbers stay exact.

Never jsonb: it turns the 8 bytes `1e131071` into 131 kB, and takes numbers that it cannot give back.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from foundation import exact_json

_PLAIN = b"\x01"


def seal(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """The value as stored. Raises TypeError or ValueError for what JSON cannot hold."""
    return _PLAIN + exact_json.dumps(value)


def unseal_json(sealed: bytes | memoryview) -> bytes:
    """The stored value's JSON text, for an answer: exact numbers, never parsed."""
    data = bytes(sealed)
    if data[:1] != _PLAIN:
        raise ValueError(f"Sealed under version {data[:1].hex()}, which this release does not know.")
    return data[1:]


def unseal(sealed: bytes | memoryview) -> Any:  # noqa: ANN401 - any JSON value
    """The stored value, whatever could be sealed: a client's limits are checked at the door, not here."""
    return json.loads(unseal_json(sealed), parse_float=_exact)


def _exact(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number
