"""Keyset pagination by id, newest first. Pages stay correct while rows are inserted, and every page costs the same."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, newest first, and whether there are more on either side."""

    rows: list[Row]
    has_older: bool
    has_newer: bool


def page_by_id(*branches: QuerySet[Row], limit: int, older_than: object = None, newer_than: object = None) -> Page[Row]:
    """Return up to `limit` rows next to that id, or the newest of all. One statement, no OFFSET, no count.

    Several disjoint branches are merged, each read in its own index order. One row more than `limit` is read from each, which
    shows whether there is another page.
    """
    if newer_than is not None:
        rows = _first_rows([branch.filter(pk__gt=newer_than) for branch in branches], "pk", limit + 1)
        return Page(rows[:limit][::-1], has_older=True, has_newer=len(rows) > limit)
    if older_than is not None:
        branches = tuple(branch.filter(pk__lt=older_than) for branch in branches)
    rows = _first_rows(branches, "-pk", limit + 1)
    return Page(rows[:limit], has_older=len(rows) > limit, has_newer=older_than is not None)


def encode_cursor(last_id: UUID) -> str:
    """Return the opaque text of the page that begins after this id."""
    return base64.urlsafe_b64encode(last_id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> UUID:
    """Return the id that `encode_cursor` was given. Raises ValueError for any other text."""
    last_id = UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    # The decoder ignores characters that it does not know.
    if encode_cursor(last_id) != cursor:
        raise ValueError("The cursor is not in its canonical form.")
    return last_id


def _first_rows(branches: Sequence[QuerySet[Row]], order: str, count: int) -> list[Row]:
    first, *others = (branch.order_by(order)[:count] for branch in branches)
    return list(first.union(*others, all=True).order_by(order)[:count] if others else first)
