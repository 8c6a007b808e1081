"""Why a job did not succeed, as the problem document that its `error` holds (RFC 9457; types are relative references)."""

from __future__ import annotations

from typing import Any

_TITLES = {
    "operation-failed": "The operation failed for good.",
    "attempts-exhausted": "Every attempt failed.",
    "deadline-exceeded": "The deadline passed before anything was done.",
    "partially-done": "The operation failed after a part of it had taken effect.",
    "outcome-unknown": "An effect began, and nobody can tell whether it happened.",
}
# Whether the same request under a new key can help, without doing anything twice.
_RETRYABLE = {"attempts-exhausted", "deadline-exceeded"}


# Characters of a foreign message that are kept: enough to recognise it, too little to fill a table.
_DETAIL_MAX = 2_000


def printable(text: str) -> str:
    """The text as jsonb and UTF-8 can hold it: no U+0000, no lone surrogate, and not too long."""
    return text[:_DETAIL_MAX].replace("\x00", "").encode("utf-8", "replace").decode()


def failure(code: str, detail: str, *, cause: str | None = None) -> dict[str, Any]:
    """The document. `cause` is the operation's or the downstream's own code, such as `card_declined`."""
    document = {
        "type": f"/problems/{code}",
        "title": _TITLES[code],
        "detail": printable(detail),
        "code": code,
        "retryable": code in _RETRYABLE,
    }
    return document if cause is None else {**document, "cause": printable(cause)}
