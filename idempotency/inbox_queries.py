"""Every statement on `inbox_message`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

if TYPE_CHECKING:
    from datetime import datetime

_INSERT = """
INSERT INTO inbox_message (consumer, message_id, received_at) VALUES (%s, %s, clock_timestamp())
ON CONFLICT (consumer, message_id) DO NOTHING
"""

# By place, since the rows are held: no second look through an index. The array is made once, before the deletion.
_DELETE = """
DELETE FROM inbox_message WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM inbox_message WHERE received_at <= %s ORDER BY received_at LIMIT %s FOR UPDATE SKIP LOCKED
))
"""


def insert_message(*, consumer: str, message_id: str) -> bool:
    """Make the message this transaction's; False where a committed row of it is there.

    Locks the new row; until this transaction ends others wait for it on inbox_message_pkey, and get a row if it rolls back.
    """
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, (consumer, message_id))
        count: int = cursor.rowcount
    return count == 1


def delete_messages(*, until: datetime, limit: int) -> int:
    """Delete the next messages received by then, the oldest first, and return how many.

    Rows locked elsewhere are left out; fewer than `limit` therefore means that there are no more. Served by
    inbox_message_received.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DELETE, (until, limit))
        count: int = cursor.rowcount
    return count
