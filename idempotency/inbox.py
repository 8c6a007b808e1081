"""The inbox: consume each message once, in the transaction of its effects, although it is delivered more than once."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.transaction import TransactionManagementError

from idempotency import maintenance_queries as queries
from idempotency.models import InboxMessage
from idempotency.record_purge import Counts


def consume_once(consumer: str, message_id: str) -> bool:
    """Return True if this transaction is to handle the message, False if the consumer has handled it before.

    The message and its effects are committed together: after a rollback, or a crash before the commit, the message has
    not been consumed. A transaction that handles several messages must take them in the order of their ids, to avoid
    deadlocks. If two deliveries are concurrent, the second waits for the first, at most lock_timeout. It returns False if
    the first
    commits and True if the first rolls back. Sends one statement and needs no savepoint.

    Raises TransactionManagementError outside a transaction, where the row would be committed before the effects;
    ValueError if a name is empty or longer than its column.
    """
    if not connection.in_atomic_block:
        raise TransactionManagementError("Call consume_once() in the transaction of the message's effects.")
    for name in (consumer, message_id):
        if not 0 < len(name) <= InboxMessage.MAX_LENGTH:
            raise ValueError(f"A name must have 1 to {InboxMessage.MAX_LENGTH} characters, not {len(name)}.")
    return queries.insert_message(consumer=consumer, message_id=message_id)


def purge_batches(limit: int) -> Iterator[Counts]:
    """Delete one batch of messages received INBOX_RETENTION_SECONDS ago, in one transaction, at each step.

    A message delivered again after that is consumed again, so the retention must exceed every provider's redelivery.
    Rows locked by another purge are left to it.
    """
    until = queries.read_clock() - timedelta(seconds=settings.INBOX_RETENTION_SECONDS)
    deleted = limit
    while deleted == limit:
        deleted = queries.delete_messages(until=until, limit=limit)
        yield Counts(deleted)


def purge(limit: int) -> Counts:
    """Delete all messages past their retention, `limit` per transaction."""
    return sum(purge_batches(limit), start=Counts())
