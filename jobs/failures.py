"""What is stored when a job or an attempt fails. Title and retryability of each code are in api/problem_catalogue.py."""

from __future__ import annotations

# Characters of a foreign message that are kept: enough to recognise it, too few to fill a table.
_TEXT_MAX = 2_000


def printable(text: str) -> str:
    """Return the text as jsonb and UTF-8 can hold it: no U+0000, no lone surrogate, not too long."""
    return text[:_TEXT_MAX].replace("\x00", "").encode("utf-8", "replace").decode()


def describe_failure(code: str, detail: str, *, cause: str | None = None) -> dict[str, str]:
    """Return the error to store. `cause` is the operation's or the downstream's own code, such as `card_declined`."""
    error = {"code": code, "detail": printable(detail)}
    return error if cause is None else {**error, "cause": printable(cause)}
