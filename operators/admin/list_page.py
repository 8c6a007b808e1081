"""Pages of a list by the id of their first or last row, and the links between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from jobs.keyset import page_by_id

if TYPE_CHECKING:
    Row = TypeVar("Row", bound="Model")

# Rows of one page: a screen or two.
ROWS = 50
_POSITIONS = ("older_than", "newer_than")


def list_page(request: HttpRequest, *branches: QuerySet[Row]) -> tuple[list[Row], dict[str, str | None]]:
    """Return the page of rows that the address names, newest first, and the links to the pages around it.

    branches: disjoint querysets, merged by id.
    A position that is no id means the first page. A link is None where there is no such page.
    """
    query = request.GET
    older_than, newer_than = (row_id(branches[0], query.get(name)) for name in _POSITIONS)
    page = page_by_id(*branches, limit=ROWS, older_than=older_than, newer_than=newer_than)
    has_older, has_newer = bool(page.rows) and page.has_older, bool(page.rows) and page.has_newer
    return page.rows, {
        "older": link(query, older_than=page.rows[-1].pk) if has_older else None,
        "newer": link(query, newer_than=page.rows[0].pk) if has_newer else None,
        "newest": link(query) if older_than or newer_than else None,
    }


def link(query: Mapping[str, str], **changes: object) -> str:
    """Return the address of the list with these parameters changed (None drops one).

    It leads to the first page unless the changes name a position; a search is dropped, as are empty parameters.
    """
    # items(), because unpacking a QueryDict would yield lists.
    changed = {**dict(query.items()), **dict.fromkeys((*_POSITIONS, "q")), **changes}
    return f"?{urlencode({name: value for name, value in changed.items() if value not in (None, '')})}"


def row_id(rows: QuerySet[Any], text: str | None) -> Any:  # noqa: ANN401 - an int or a UUID
    """Return the primary key in the text; None if there is none."""
    try:
        return rows.query.get_meta().pk.to_python(text)
    except ValidationError:
        return None
