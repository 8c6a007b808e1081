"""The links of a page by id: where the request stands, and what lies beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.http import QueryDict

    from jobs.keyset import Page

_PLACES = ("older_than", "newer_than")
_ID_MAX = 2**63 - 1


def place(asked: QueryDict) -> dict[str, int | None]:
    """The whole numbers that the address gives as the page's place; what is none begins at the newest."""
    found = {name: asked.get(name, "") for name in _PLACES}
    return {
        name: int(text) if text.isascii() and text.isdigit() and int(text[:20]) <= _ID_MAX else None
        for name, text in found.items()
    }


def around(listed: Page[Any], asked: QueryDict) -> dict[str, Any]:
    """Addresses of the older, the newer and the newest page; None where there is nothing."""
    query = asked.copy()
    is_first = not any(query.pop(name, None) for name in _PLACES)
    for name in [name for name, value in query.items() if not value]:
        del query[name]

    def beside(name: str, row: Any) -> str:  # noqa: ANN401 - any model's
        moved = query.copy()
        moved[name] = str(row.pk)
        return f"?{moved.urlencode()}"

    rows = listed.rows
    return {
        "older": beside("older_than", rows[-1]) if rows and listed.has_older else None,
        "newer": beside("newer_than", rows[0]) if rows and listed.has_newer else None,
        "newest": None if is_first else f"?{query.urlencode()}",
    }
