"""The rows that make a request, or a message, happen once."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class IdempotencyRecord(models.Model):
    """One key of one scope: which request it stands for, and how that was answered.

    Unique by scope and key: whoever inserts the row runs the request. Both are plain text, so that uniqueness
    depends on no secret that rotates. Row and work commit together; a replay writes nothing.
    """

    # "C": compared byte by byte, on every server alike; a collation upgrade cannot break the unique index.
    scope = models.CharField(max_length=255, db_collation="C")  # whose key; opaque
    key = models.CharField(max_length=255, db_collation="C")

    # Compared under this version and this kid, not under today's.
    fingerprint = models.BinaryField()
    fingerprint_version = models.PositiveSmallIntegerField()
    fingerprint_kid = models.CharField(max_length=64)
    members = models.BinaryField(null=True)  # see members.py; null once erased, or for a body that is no JSON

    method = models.CharField(max_length=16)
    path = models.TextField()

    # The stored answer. Bytes, so that a replay is the same bytes.
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.BinaryField(null=True)  # JSON list of [name, value]
    body = models.BinaryField(null=True)  # null beside a status: was too large to keep, or erased
    erased_at = models.DateTimeField(null=True)

    resource = models.TextField(null=True)  # noqa: DJ001 # opaque, "job/<id>"; null: there is none
    # What the request is about, where that was there before it ("job/<id>" of a cancel); opaque, written at the insert and
    # not with the answer, which is a HOT update only for as long as it touches no indexed column.
    subject = models.TextField(null=True)  # noqa: DJ001 # null: about nothing that was there
    owner = models.IntegerField(db_default=0)  # raised by each take-over: a fence for the answer

    # Approximate, and late by seconds: see replays.py.
    replays = models.PositiveIntegerField(db_default=0, default=0)
    last_replayed_at = models.DateTimeField(null=True)

    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()  # the earliest moment at which the key can be free

    class Meta:  # Django's own form
        db_table = "idempotency_record"
        constraints = [  # Django's own form
            models.UniqueConstraint(fields=["scope", "key"], name="idempotency_record_scope_key"),
            models.CheckConstraint(
                condition=Q(status=None) | Q(status__range=(100, 599)), name="idempotency_record_status"
            ),
            models.CheckConstraint(
                condition=Q(status=None, headers=None, body=None)
                | Q(status__isnull=False, headers__isnull=False),
                name="idempotency_record_answer",
            ),
            models.CheckConstraint(
                condition=Q(erased_at=None) | Q(body=None, members=None), name="idempotency_record_erased"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="idempotency_record_lifetime"
            ),
            models.CheckConstraint(condition=~Q(key=""), name="idempotency_record_key"),
        ]
        indexes = [  # Django's own form
            models.Index(
                fields=["expires_at", "id"], name="idempotency_record_expiry"
            ),  # purge, in this order
            # Erasure. What makes things, and is most of what is accepted, has no entry in it.
            models.Index(
                fields=["subject"], name="idempotency_record_subject", condition=Q(subject__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope}/{self.key}"


class InboxMessage(models.Model):
    """One message that one consumer has acted upon: whoever inserts the row acts, and both commit together."""

    MAX_LENGTH = 255  # characters, of each name

    pk = models.CompositePrimaryKey("consumer", "message_id")
    # "C", as above. Who acts: ids of two senders may be the same.
    consumer = models.CharField(max_length=MAX_LENGTH, db_collation="C")
    # The sender's, the same in each delivery.
    message_id = models.CharField(max_length=MAX_LENGTH, db_collation="C")
    received_at = models.DateTimeField(db_default=Now())

    class Meta:  # Django's own form
        db_table = "inbox_message"
        constraints = [  # Django's own form
            models.CheckConstraint(condition=~Q(consumer="") & ~Q(message_id=""), name="inbox_message_named"),
        ]
        indexes = [  # Django's own form
            models.Index(fields=["received_at"], name="inbox_message_received"),  # purge, in this order
        ]

    def __str__(self) -> str:
        return f"{self.consumer}/{self.message_id}"
