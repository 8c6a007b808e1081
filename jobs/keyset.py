"""Pages by the last row seen, newest first: right while rows arrive, and the thousandth costs as much as the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from django.db.models import Model

if TYPE_CHECKING:
    from django.db.models import QuerySet

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, newest first, and whether there are more on either side."""

    rows: list[Row]
    has_older: bool
    has_newer: bool


def page_by_id(
    rows: QuerySet[Row], *, limit: int, older_than: object = None, newer_than: object = None
) -> Page[Row]:
    """Up to `limit` of the rows next to that id; the newest of all without one. One statement, no OFFSET, no count.

    One row more than asked for tells whether there is another page.
    """
    if newer_than is not None:
        found = list(rows.filter(pk__gt=newer_than).order_by("pk")[: limit + 1])
        return Page(found[:limit][::-1], has_older=True, has_newer=len(found) > limit)
    if older_than is not None:
        rows = rows.filter(pk__lt=older_than)
    found = list(rows.order_by("-pk")[: limit + 1])
    return Page(found[:limit], has_older=len(found) > limit, has_newer=older_than is not None)
