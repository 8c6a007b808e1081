"""A message that is delivered more than once is consumed once: in the transaction of what it brings about."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection
from django.db.transaction import TransactionManagementError

from idempotency import inbox_queries
from idempotency.models import InboxMessage
from idempotency.purge import Counts
from idempotency.queries import read_clock

if TYPE_CHECKING:
    from collections.abc import Iterator


def consume_once(consumer: str, message_id: str) -> bool:
    """Whether the message is this transaction's to act upon; False where the consumer has acted upon it before.

    Message and effects stand or fall together: after a rollback, or a death before the commit, the message has never been
    consumed; after the commit it always has. Acting upon several in one transaction, take them in the order of their ids, as
    with any rows that others may hold. Of two at once the second waits for the first, under the connection's
    lock_timeout: False once that is committed, True if it was rolled back. One statement, no savepoint.

    Raises TransactionManagementError outside a transaction, where the row would be there before the effects are;
    ValueError where a name is empty or longer than its column: cut short it could be another message's.
    """
    if not connection.in_atomic_block:
        raise TransactionManagementError(
            "consume_once() belongs inside the transaction of what the message brings about."
        )
    for name in (consumer, message_id):
        if not 0 < len(name) <= InboxMessage.MAX_LENGTH:
            raise ValueError(f"A name has 1 to {InboxMessage.MAX_LENGTH} characters, not {len(name)}.")
    return inbox_queries.insert_message(consumer=consumer, message_id=message_id)


def batches(limit: int) -> Iterator[Counts]:
    """Delete the messages that were consumed INBOX_RETENTION_SECONDS ago, a batch and transaction a step.

    One that is delivered again after that is consumed again: keep them for longer than any provider redelivers. Rows
    that another purge holds are left to it.
    """
    until = read_clock() - timedelta(seconds=settings.INBOX_RETENTION_SECONDS)
    deleted = limit
    while deleted == limit:
        deleted = inbox_queries.delete_messages(until=until, limit=limit)
        yield Counts(deleted)


def run_once(limit: int) -> Counts:
    """Every message past its retention is gone, `limit` a transaction."""
    return sum(batches(limit), start=Counts())
