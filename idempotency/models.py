"""The rows that make a request or a message take effect once."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from foundation.row_rules import RowRules


class IdempotencyRecord(models.Model):
    """One key of one scope: the request it belongs to, and the stored response.

    Unique by scope and key: the request that inserts the row runs. Both are plain text, so that uniqueness does not
    depend on a secret that rotates. The row and the work are committed together; a replay writes nothing.
    """

    # Columns of fixed width come first, so that little is lost to alignment.
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()  # the earliest moment at which the key can be free
    erased_at = models.DateTimeField(null=True)
    last_replayed_at = models.DateTimeField(null=True)
    # Approximate, and some seconds late: see replay_counter.py.
    replays = models.IntegerField(db_default=0, default=0)
    owner = models.IntegerField(db_default=0)  # raised by each take-over: the fence for storing a response
    status = models.SmallIntegerField(null=True)  # of the stored response

    # A request is compared under this version and kid, not under the current ones.
    fingerprint_version = models.SmallIntegerField()
    fingerprint_kid = models.CharField(max_length=64)
    fingerprint = models.BinaryField()
    members = models.BinaryField(null=True)  # see comparison.py; null if erased or if the body is not JSON

    # "C" compares bytes, the same on every server: a collation upgrade cannot break the unique index.
    scope = models.CharField(max_length=255, db_collation="C")  # the key's owner; opaque
    key = models.CharField(max_length=255, db_collation="C")

    method = models.CharField(max_length=16)
    path = models.TextField()
    response = models.BinaryField(null=True)  # headers and body: see response_format.py; NULL with a status: erased

    resource = models.TextField(null=True)  # noqa: DJ001 # what it made: opaque, "job/<id>"
    # The existing resource that the request acts on, such as "job/<id>" for a cancel request; opaque. The insert writes it:
    # if the response's UPDATE wrote it, that UPDATE would change an indexed column and would not be HOT.
    subject = models.TextField(null=True)  # noqa: DJ001

    class Meta:
        db_table = "idempotency_record"
        constraints = [
            models.UniqueConstraint(fields=["scope", "key"], name="idempotency_record_scope_key"),
            RowRules(
                table="idempotency_record",
                rules={
                    "idempotency_record_status": "NEW.status BETWEEN 100 AND 599",
                    "idempotency_record_answer": """CASE WHEN NEW.status IS NULL THEN NEW.response IS NULL
                        ELSE NEW.response IS NOT NULL OR NEW.erased_at IS NOT NULL END""",
                    "idempotency_record_erased": "NEW.erased_at IS NULL OR NEW.response IS NULL AND NEW.members IS NULL",
                    "idempotency_record_lifetime": "NEW.expires_at > NEW.created_at",
                    "idempotency_record_key": "NEW.key <> ''",
                },
            ),
        ]
        indexes = [
            models.Index(fields=["expires_at", "id"], name="idempotency_record_expiry"),  # the purge's order
            # For erasure. Requests that create resources, most of what is accepted, have no entry.
            models.Index(fields=["subject"], name="idempotency_record_subject", condition=Q(subject__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.scope}/{self.key}"


class InboxMessage(models.Model):
    """One message that one consumer has handled: the transaction that inserts the row handles the message."""

    MAX_LENGTH = 255  # characters, of each name

    pk = models.CompositePrimaryKey("consumer", "message_id")
    # Part of the key, because two senders may use the same ids. "C", as above.
    consumer = models.CharField(max_length=MAX_LENGTH, db_collation="C")
    # Given by the sender, the same in each delivery.
    message_id = models.CharField(max_length=MAX_LENGTH, db_collation="C")
    received_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "inbox_message"
        constraints = [
            models.CheckConstraint(condition=~Q(consumer="") & ~Q(message_id=""), name="inbox_message_named")
        ]
        indexes = [
            models.Index(fields=["received_at"], name="inbox_message_received")  # the purge's order
        ]

    def __str__(self) -> str:
        return f"{self.consumer}/{self.message_id}"
