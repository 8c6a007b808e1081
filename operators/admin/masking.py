"""Nobody on call needs a customer's card: what must not be shown is covered before it reaches a page."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from json import dumps
from typing import TYPE_CHECKING, Any

from django.conf import settings

from jobs.payloads import decode_payload

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK = "••••••"
# Characters of one value that a page shows: a person reads no more, and a browser should not have to.
SHOWN_MAX = 20_000

# Secrets that stand within words: an API key of ours, the user and password of an address, a bearer credential.
_IN_WORDS = re.compile(
    r"\b(?:live|test)_[0-9a-f]{16}_[\w-]+|(?<=://)[^/\s:@]*:[^/\s@]*(?=@)|(?<=\bBearer )\S+", re.IGNORECASE
)


def masked(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value without what stands under a masked name (settings.ADMIN_MASKED_NAMES), at any depth, or within words."""
    if isinstance(value, dict):
        return {name: MASK if is_secret(name) else masked(member) for name, member in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return masked_text(value) if isinstance(value, str) else value


def is_secret(name: str) -> bool:
    """Whether the name holds one of the masked ones, in any case: `cardToken` and `CARD_NUMBER` both do."""
    return any(word in name.lower() for word in _names())


def masked_text(text: str) -> str:
    """The text without secrets that can be told by their form, or by `name=` and `name:` before them."""
    return _named_in_words(_names()).sub(rf"\1{MASK}", _IN_WORDS.sub(MASK, text))


def shown(encoded: bytes | memoryview | None) -> str | None:
    """An encoded value as a page shows it: masked, indented, each number as it was sent; None where there is none."""
    return None if encoded is None else shown_value(decode_payload(encoded))


def shown_value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """As `shown`, for a value that is not encoded."""
    text = "".join(_lines(masked(value), "\n"))
    return (
        text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}\n… {len(text) - SHOWN_MAX} characters more"
    )


def _lines(value: Any, margin: str) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """JSON with one member a line. The standard encoder knows no exact numbers."""
    deeper = f"{margin}  "
    if isinstance(value, dict) and value:
        yield "{"
        for number, (name, member) in enumerate(value.items()):
            yield f"{',' if number else ''}{deeper}{dumps(name, ensure_ascii=False)}: "
            yield from _lines(member, deeper)
        yield f"{margin}}}"
    elif isinstance(value, list) and value:
        yield "["
        for number, item in enumerate(value):
            yield f"{',' if number else ''}{deeper}"
            yield from _lines(item, deeper)
        yield f"{margin}]"
    else:
        yield str(value) if isinstance(value, Decimal) else dumps(value, ensure_ascii=False)


def _names() -> tuple[str, ...]:
    return tuple(name.lower() for name in settings.ADMIN_MASKED_NAMES)


@cache
def _named_in_words(names: tuple[str, ...]) -> re.Pattern[str]:
    """`<name>=…` and `<name>: …`, quoted or not."""
    words = "|".join(re.escape(name) for name in names) or r"(?!)"
    # Bounded: a long word is looked through once.
    return re.compile(
        rf"""(\b\w{{0,64}}?(?:{words})\w{{0,64}}["']?\s*[=:]\s*["']?)[^\s"',;&}}]+""", re.IGNORECASE
    )
