"""Mask secrets in payloads before a page shows them."""

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from json import dumps
from typing import Any

from django.conf import settings

from jobs.payloads import decode_payload

MASK = "••••••"
# Characters of one value on a page: more would burden the browser, and no operator reads it.
MAX_SHOWN = 20_000

# Secrets with a form of their own: an API key of Semel, user and password in a URL, a bearer credential.
_SECRET_FORMS = re.compile(
    r"\b(?:live|test)_[0-9a-f]{16}_[\w-]+|(?<=://)[^/\s:@]*:[^/\s@]*(?=@)|(?<=\bBearer )\S+", re.IGNORECASE
)


def mask(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value with its secrets masked: members under a masked name at any depth, and secrets within texts."""
    if isinstance(value, dict):
        return {name: MASK if is_secret(name) else mask(member) for name, member in value.items()}
    if isinstance(value, list):
        return [mask(item) for item in value]
    return mask_text(value) if isinstance(value, str) else value


def is_secret(name: str) -> bool:
    """Return whether the name contains one of ADMIN_MASKED_NAMES in any case, as `cardToken` and `CARD_NUMBER` do."""
    return any(masked in name.lower() for masked in _masked_names())


def mask_text(text: str) -> str:
    """Mask secrets that have a recognizable form, or a masked name with `=` or `:` before them."""
    return _named_secrets(_masked_names()).sub(rf"\1{MASK}", _SECRET_FORMS.sub(MASK, text))


def format_payload(payload: bytes | memoryview | None) -> str | None:
    """Return the encoded payload as `format_value` does; None if there is none."""
    return None if payload is None else format_value(decode_payload(payload))


def format_value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the value as indented JSON, masked and cut to MAX_SHOWN characters. Numbers keep their digits."""
    text = "".join(_indented(mask(value), "\n"))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}\n… {len(text) - MAX_SHOWN} more characters"


def _indented(value: Any, margin: str) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Yield the parts of the JSON, one member per row. json.dumps cannot write exact decimals."""
    deeper = f"{margin}  "
    if isinstance(value, dict) and value:
        yield "{"
        for number, (name, member) in enumerate(value.items()):
            yield f"{',' if number else ''}{deeper}{dumps(name, ensure_ascii=False)}: "
            yield from _indented(member, deeper)
        yield f"{margin}}}"
    elif isinstance(value, list) and value:
        yield "["
        for number, item in enumerate(value):
            yield f"{',' if number else ''}{deeper}"
            yield from _indented(item, deeper)
        yield f"{margin}]"
    else:
        yield str(value) if isinstance(value, Decimal) else dumps(value, ensure_ascii=False)


def _masked_names() -> tuple[str, ...]:
    return tuple(name.lower() for name in settings.ADMIN_MASKED_NAMES)


@cache
def _named_secrets(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern of `<name>=…` and `<name>: …`, quoted or not."""
    alternatives = "|".join(re.escape(name) for name in names) or r"(?!)"
    # The quantifiers are bounded, so that a long text is searched in linear time.
    return re.compile(
        rf"""(\b\w{{0,64}}?(?:{alternatives})\w{{0,64}}["']?\s*[=:]\s*["']?)[^\s"',;&}}]+""", re.IGNORECASE
    )
