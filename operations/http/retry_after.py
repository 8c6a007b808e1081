"""The Retry-After header (RFC 9110 §10.2.3): seconds or an HTTP date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# The longest wait that another's word can impose on a job: a wrong clock or a joker must not park it for a year.
LONGEST = timedelta(hours=1)


def parse_retry_after(value: str | None) -> timedelta | None:
    """How long to wait, from 0 to an hour; None where the header is missing or means nothing."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Compared as text first: int() refuses thousands of digits, timedelta millions of years.
        return (
            LONGEST if len(value.lstrip("0")) > len("3600") else min(timedelta(seconds=int(value)), LONGEST)
        )
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)  # "-0000" is UTC as well
    return min(max(at - datetime.now(UTC), timedelta(0)), LONGEST)
