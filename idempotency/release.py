"""A key is freed before its time, by a person's decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idempotency import queries
from idempotency.errors import KeyGone, ResourceNotEnded
from idempotency.registry import has_ended

if TYPE_CHECKING:
    from idempotency.records import Record


def release_key(*, record_id: int, owner: int) -> Record:
    """The key is free: the next request under it is a new one. Returns the record that is gone.

    What that means: "accepted once" holds for as long as a key is remembered, and this ends the memory early. A client
    that still repeats the first request is accepted a second time. Nothing but a person who knows that it does not, or
    that it should, can decide so; hence never by a client, and never before what the key started has ended.

    `owner` is the record's as that person saw it: a key that has been taken over since stands for another request.
    Raises KeyGone, ResourceNotEnded. Called inside the transaction that says who did it.

    Locks the record, then asks whether its resource has ended. A redrive locks it first as well: it either comes before,
    and the resource has not ended, or finds the record gone and takes the key back, if nobody has used it by then. A
    purge or take-over that holds it is waited for, and seen. A replay in that moment answers as before: it read the
    record while there was one. A first use waits for nothing, or for this commit, and is then new.
    """
    record = queries.lock_record(record_id)
    if record is None or record.owner != owner:
        raise KeyGone
    if not has_ended(record.resource):
        raise ResourceNotEnded(resource=record.resource)
    queries.delete_records([record.id])
    return record
