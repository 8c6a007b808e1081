"""Whether resources have ended: `idempotency` cannot know, so whoever owns them registers a judge."""

from __future__ import annotations

from collections.abc import Callable, Collection

# Given resources, returns those that have ended. What it does not know or no longer has counts as ended, and
# is returned.
Judge = Callable[[Collection[str]], set[str]]

_judges: list[Judge] = []


def register_has_ended(judge: Judge) -> None:
    """From now on a key stays taken until this judge, too, says that the key's resource has ended.

    Call it in AppConfig.ready(). The judge is called inside the transaction that holds the record's lock; it
    may read, and must not lock what is locked before records are.
    """
    if judge not in _judges:
        _judges.append(judge)


def find_ended(resources: Collection[str | None]) -> set[str | None]:
    """Return those that have ended by every judge's word: all, where nobody registered; None always has."""
    named = {resource for resource in resources if resource is not None}
    ended: set[str | None] = {None}
    for judge in _judges:
        if named:
            named &= judge(named)
    return ended | named


def has_ended(resource: str | None) -> bool:
    """Whether nothing more will happen to the resource, so that its key may mean another request."""
    return resource is None or resource in find_ended([resource])
