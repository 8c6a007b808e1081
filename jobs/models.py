"""The job's rows. The constraints repeat states.py, so that the database itself refuses what the table does not allow.

No foreign key is enforced between these tables: every child row is written by the statement that holds its job's row, and
purged under the same lock; enforcing it would cost each accept and each transition a second lock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from jobs.states import TERMINAL, State

# When a job that a pause keeps would be published: a resume brings that day nearer.
PARKED = datetime(9999, 1, 1, tzinfo=UTC)


class Priority(models.IntegerChoices):
    """Which queue a job waits in."""

    HIGH = 0
    DEFAULT = 1
    LOW = 2


class Job(models.Model):
    """What a client asked for, and the whole truth about it; it is its own outbox (`next_publish_at`)."""

    id = models.UUIDField(primary_key=True, editable=False)  # UUIDv7: newest last, made by the application
    tenant = models.ForeignKey(
        "accounts.Tenant", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    mode = models.CharField(max_length=4)
    operation = models.CharField(max_length=100)
    operation_version = models.PositiveSmallIntegerField()
    params = models.BinaryField()  # sealed
    result = models.BinaryField(null=True)  # sealed
    error = models.BinaryField(null=True)  # sealed
    # The error's code and cause once more, for those who group and look for them. Names, and no payload: they outlive an erasure.
    error_code = models.CharField(max_length=30, null=True)  # noqa: DJ001 - NULL: no error, or from before there was this column
    error_cause = models.CharField(max_length=100, null=True)  # noqa: DJ001 - as error_code
    metadata = models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)
    state = models.CharField(max_length=9, choices=[(state.value, state.value) for state in State])
    attempt = models.PositiveIntegerField(db_default=0, default=0)  # the fence: it only rises
    attempts_left = models.PositiveSmallIntegerField()
    max_attempts = models.PositiveSmallIntegerField()
    reconcile_only = models.BooleanField(
        db_default=False, default=False
    )  # the next attempt sends nothing new
    open_effects = models.PositiveSmallIntegerField(db_default=0, default=0)  # begun, outcome not recorded
    done_effects = models.PositiveSmallIntegerField(db_default=0, default=0)  # done and not compensated
    event_seq = models.PositiveIntegerField(db_default=1, default=1)
    run_at = models.DateTimeField(db_default=Now())
    next_publish_at = models.DateTimeField(null=True)  # when the sweeper publishes it (again)
    publications = models.PositiveSmallIntegerField(
        db_default=0, default=0
    )  # by the sweeper, since it was queued
    lease_expires_at = models.DateTimeField(null=True)  # in no index, so that a renewal stays a HOT update
    worker = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: no worker holds it
    deadline_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    erased_at = models.DateTimeField(null=True)  # since when params, result and errors are gone
    identity = models.BinaryField(null=True)  # digest of the business intent, where the operation names one
    concurrency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: runs beside any other
    accept_seq = models.BigIntegerField(null=True)  # the order among jobs of one concurrency key
    queue = models.CharField(max_length=50)
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.DEFAULT)
    progress = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)  # of the latest attempt
    finished_at = models.DateTimeField(null=True)
    idempotency_record_id = models.BigIntegerField(null=True)  # no constraint: the record may be purged first
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: submitted without one
    # Which request asked, for those who follow it; on the row, since a sweep publishes without any request at hand.
    request_id = models.CharField(max_length=128, null=True)  # noqa: DJ001 - NULL: submitted by no request
    traceparent = models.CharField(max_length=55, null=True)  # noqa: DJ001 - NULL: not traced (W3C Trace Context)

    class Meta:
        db_table = "job"
        # Whatever an operator does to jobs, keys and pauses; a job is never changed by a form.
        permissions = [("operate_job", "Can cancel, redrive, resolve, release, pause and resume")]
        indexes = [
            # By queue first: the jobs of a full one, due and left alone, must not stand before those of another.
            models.Index(
                fields=["queue", "next_publish_at"],
                name="job_queued_by_queue",
                condition=Q(state=State.QUEUED),
            ),
            models.Index(fields=["id"], name="job_running", condition=Q(state=State.RUNNING)),
            # Of operators: what failed lately; what failed half done, until somebody redrives it.
            models.Index(fields=["finished_at"], name="job_failed", condition=Q(state=State.FAILED)),
            models.Index(fields=["id"], name="job_partially_done", condition=Q(error_code="partially-done")),
            models.Index(fields=["id"], name="job_parked", condition=Q(next_publish_at=PARKED)),
            # Since when the longest waiting is due, in each queue; without those that wait in a line or under a pause.
            models.Index(
                fields=["queue", "run_at"],
                name="job_due",
                condition=Q(state=State.QUEUED, concurrency_key__isnull=True, next_publish_at__lt=PARKED),
            ),
            models.Index(
                fields=["deadline_at"],
                name="job_queued_by_deadline",
                condition=Q(state=State.QUEUED, deadline_at__isnull=False),
            ),
            models.Index(
                fields=["tenant", "mode", "concurrency_key", "accept_seq"],
                name="job_concurrency_order",
                condition=Q(concurrency_key__isnull=False, state__in=[State.QUEUED, State.RUNNING]),
            ),
            models.Index(
                fields=["finished_at", "id"], name="job_ended", condition=Q(finished_at__isnull=False)
            ),  # purge, in this order
            # Whosever they are, for operators; no index for the states of the happy path, which would pay for it.
            models.Index(
                fields=["state", "id"],
                name="job_in_trouble",
                condition=Q(state__in=[State.FAILED, State.CANCELED, State.UNKNOWN]),
            ),
            models.Index(fields=["tenant", "mode", "-id"], name="job_list"),
            models.Index(fields=["tenant", "mode", "state", "-id"], name="job_list_by_state"),
            models.Index(
                fields=["tenant", "mode", "operation", "state", "-id"], name="job_list_by_operation_state"
            ),
            models.Index(
                fields=["tenant", "mode", "idempotency_key", "-id"],
                name="job_list_by_key",
                condition=Q(idempotency_key__isnull=False),
            ),
            # Across tenants: whoever is on call has the id from a log line or a client's report.
            models.Index(
                fields=["request_id"], name="job_by_request_id", condition=Q(request_id__isnull=False)
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=list(State)), name="job_state_is_known"),
            models.CheckConstraint(condition=Q(mode__in=["test", "live"]), name="job_mode_is_known"),
            models.CheckConstraint(
                condition=Q(state=State.QUEUED, next_publish_at__isnull=False, attempts_left__gt=0)
                | (~Q(state=State.QUEUED) & Q(next_publish_at__isnull=True)),
                name="job_queued_is_to_be_published",
            ),
            models.CheckConstraint(
                condition=Q(
                    state=State.RUNNING, lease_expires_at__isnull=False, worker__isnull=False, attempt__gt=0
                )
                | (~Q(state=State.RUNNING) & Q(lease_expires_at__isnull=True, worker__isnull=True)),
                name="job_running_has_a_lease",
            ),
            models.CheckConstraint(
                condition=Q(state__in=sorted(TERMINAL), finished_at__isnull=False, open_effects=0)
                | (~Q(state__in=sorted(TERMINAL)) & Q(finished_at__isnull=True)),
                name="job_ended_has_no_open_effect",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.CANCELED) | Q(done_effects=0), name="job_canceled_did_nothing"
            ),
            models.CheckConstraint(
                condition=~Q(state=State.SUCCEEDED) | Q(result__isnull=False),
                name="job_succeeded_has_a_result",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=[State.FAILED, State.UNKNOWN]) | Q(error__isnull=False),
                name="job_failed_or_unknown_says_why",
            ),
            models.CheckConstraint(
                condition=Q(attempts_left__lte=F("max_attempts")), name="job_attempts_left_within_max"
            ),
            models.UniqueConstraint(
                fields=["tenant", "mode", "concurrency_key"],
                name="job_one_running_per_concurrency_key",
                condition=Q(state=State.RUNNING, concurrency_key__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["tenant", "mode", "operation", "identity"],
                name="job_one_per_identity",
                condition=Q(identity__isnull=False) & ~Q(state__in=[State.CANCELED, State.FAILED]),
            ),
            models.CheckConstraint(
                condition=Q(erased_at__isnull=True) | Q(finished_at__isnull=False),
                name="job_erased_has_ended",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.id} ({self.state})"

    @property
    def resource(self) -> str:
        """What an idempotency record calls this job."""
        return f"job/{self.id}"


class JobAttempt(models.Model):
    """One execution of a job. Its number is the fencing token that every write of it must show."""

    class Outcome(models.TextChoices):
        """How an attempt ended: the event that ended it."""

        SUCCEEDED = "succeed"
        FAILED = "fail"
        RETRIED = "retry"
        POSTPONED = "postpone"
        EXPIRED = "expire"
        IN_DOUBT = "doubt"
        CANCELED = "canceled"

    pk = models.CompositePrimaryKey("job_id", "number")
    job = models.ForeignKey(
        Job, related_name="attempts", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    number = models.PositiveIntegerField()
    worker = models.CharField(max_length=255)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=9, choices=Outcome.choices, null=True)  # noqa: DJ001 - NULL: still running
    error = models.BinaryField(null=True)  # sealed

    class Meta:
        db_table = "job_attempt"
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at=None, outcome=None) | Q(ended_at__isnull=False, outcome__isnull=False),
                name="job_attempt_ends_with_an_outcome",
            ),
            models.CheckConstraint(
                condition=Q(outcome=None)
                | Q(outcome__in=["succeed", "fail", "retry", "postpone", "expire", "doubt", "canceled"]),
                name="job_attempt_outcome_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.job_id}"


class JobStep(models.Model):
    """A named, recorded piece of an operation: what an attempt did to the world, or remembered."""

    class Kind(models.TextChoices):
        """What a step's record promises."""

        STEP = "step"  # a result remembered between attempts
        EFFECT = "effect"  # a change outside our database, recorded before and after
        COMMIT = "commit"  # a change inside our database, exactly once

    class State(models.TextChoices):
        """What is known of a step."""

        STARTED = "started"
        DONE = "done"
        NOT_DONE = "not_done"
        REFUSED = "refused"
        COMPENSATED = "compensated"

    pk = models.CompositePrimaryKey("job_id", "name")
    job = models.ForeignKey(
        Job, related_name="steps", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=6, choices=Kind.choices)
    state = models.CharField(max_length=11, choices=State.choices)
    generation = models.PositiveSmallIntegerField(db_default=1, default=1)
    downstream_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: not an effect
    # What the downstream calls what it did ("ch_…"), where its answer says so. An id: it stays when the payload is erased.
    reference = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: it said none
    attempt = models.PositiveIntegerField()  # the latest that touched it
    first_started_at = models.DateTimeField()
    last_started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    result = models.BinaryField(null=True)  # sealed
    undoes = models.CharField(max_length=100, null=True)  # noqa: DJ001 - NULL: not the compensation of another step

    class Meta:
        db_table = "job_step"
        indexes = [
            # Across tenants: whoever is on call has the downstream's id from its page or a complaint.
            models.Index(
                fields=["reference"], name="job_step_by_reference", condition=Q(reference__isnull=False)
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["step", "effect", "commit"]), name="job_step_kind_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["started", "done", "not_done", "refused", "compensated"]),
                name="job_step_state_is_known",
            ),
            models.CheckConstraint(
                condition=Q(kind="effect", downstream_key__isnull=False)
                | (~Q(kind="effect") & Q(state="done")),
                name="job_step_only_effects_are_open",
            ),
            models.CheckConstraint(
                condition=~Q(state="done") | Q(result__isnull=False), name="job_step_done_has_a_result"
            ),
            models.CheckConstraint(
                condition=Q(state="started", ended_at__isnull=True)
                | (~Q(state="started") & Q(ended_at__isnull=False)),
                name="job_step_ended_unless_started",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.job_id} ({self.state})"

    @property
    def begins_anew_on_redrive(self) -> bool:
        """Whether its key has had its answer: it was refused, or undone, or is itself what undid another.

        What was not done keeps its key, be it an effect or what undoes one: should a call of its past land all the same, the
        downstream knows the next one for a repeat.
        """
        has_undone = self.undoes is not None and self.state == self.State.DONE
        return has_undone or self.state in (self.State.REFUSED, self.State.COMPENSATED)


class JobArtifact(models.Model):
    """A file that a job made, whole in storage since before this row was written."""

    pk = models.CompositePrimaryKey("job_id", "name")
    job = models.ForeignKey(
        Job, related_name="artifacts", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    name = models.CharField(max_length=100)  # as its address has it
    content_type = models.CharField(max_length=200)
    filename = models.CharField(max_length=200)  # what a download is called
    size = models.PositiveBigIntegerField()  # bytes
    digest = models.BinaryField(max_length=32)  # SHA-256 of the bytes
    storage_name = models.CharField(max_length=100)  # never used twice
    attempt = models.PositiveIntegerField()  # which made it
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)  # NULL: kept as long as its job

    class Meta:
        db_table = "job_artifact"
        indexes = [
            models.Index(
                fields=["expires_at"],
                name="job_artifact_by_expiry",
                condition=Q(expires_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"artifact {self.name} of {self.job_id}"


class StrayFile(models.Model):
    """A file that may lie in storage and is no artifact: not yet, or no longer. The purge removes it when its time has come.

    Written before the file, and deleted by the statement that makes an artifact of it, or after the file is removed: so
    there is no instant at which a process can die and leave a file that nobody knows of.
    """

    storage_name = models.CharField(primary_key=True, max_length=100)
    job_id = models.UUIDField()
    attempt = (
        models.PositiveIntegerField()
    )  # which may make an artifact of it while it holds the job; 0: none
    removable_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "stray_file"

    def __str__(self) -> str:
        return f"stray file {self.storage_name} of {self.job_id}"


class JobEvent(models.Model):
    """What happened to a job: append-only, numbered without a gap, in the order of commits."""

    pk = models.CompositePrimaryKey("job_id", "seq")
    job = models.ForeignKey(
        Job, related_name="events", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=30)
    attempt = models.PositiveIntegerField()
    data = models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "job_event"

    def __str__(self) -> str:
        return f"{self.seq} {self.type} of {self.job_id}"


class Pause(models.Model):
    """Such jobs are not claimed: of an operation, of a tenant, of both together; of everything where neither is named."""

    operation = models.CharField(max_length=100, null=True)  # noqa: DJ001 - NULL: of every operation
    tenant = models.ForeignKey("accounts.Tenant", null=True, on_delete=models.PROTECT, db_index=False)
    by = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())
    note = models.TextField()
    resumed_at = models.DateTimeField(
        null=True
    )  # from then on it holds nobody back; gone once nobody is parked
    walked_to = models.UUIDField(default=UUID(int=0))  # as far as parked jobs have been looked at since

    class Meta:
        db_table = "job_pause"
        constraints = [
            models.UniqueConstraint(
                Coalesce("operation", models.Value("")),
                Coalesce("tenant", models.Value(0)),
                condition=Q(resumed_at=None),
                name="job_pause_once",
            ),
        ]

    def __str__(self) -> str:
        return f"pause of {self.operation or 'every operation'}, tenant {self.tenant_id or 'any'}"


class BulkAction(models.Model):
    """One act of an operator on all jobs of a filter: how far it has come, and what came of it (jobs/operators/bulk.py)."""

    class Action(models.TextChoices):
        """What is done to each job."""

        CANCEL = "cancel"
        REDRIVE = "redrive"
        RESOLVE = "resolve"
        RELEASE = "release"  # its idempotency key

    action = models.CharField(max_length=7, choices=Action.choices)
    selection = models.JSONField()  # the filter: jobs/operators/inspection.py Wanted
    said = models.JSONField(default=dict)  # of a resolve: verdict and then
    note = models.TextField()
    by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())
    until = models.UUIDField()  # the newest job at the start: those behind it are left alone
    cursor = models.UUIDField(default=UUID(int=0))  # the last job that was met or passed by
    changed = models.PositiveBigIntegerField(default=0)
    refused = models.JSONField(default=dict)  # how many, by reason
    finished_at = models.DateTimeField(null=True)
    is_stopped = models.BooleanField(default=False)  # finished by an operator before its end

    class Meta:
        db_table = "job_bulk_action"
        indexes = [
            models.Index(fields=["id"], name="job_bulk_action_open", condition=Q(finished_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.id} by {self.by}"


class Violation(models.Model):
    """A rule that the self-audit found broken (selfaudit.py): a notice to whoever is on call. One open row a rule and subject."""

    invariant = models.CharField(max_length=4)  # "I4", as DESIGN.md numbers them
    rule = models.CharField(max_length=50)
    subject = models.CharField(max_length=100)  # "job/<id>", "record/<id>", "purge/<kind>"
    details = models.JSONField(default=dict)  # figures and names, never a payload
    first_seen_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    resolved_at = models.DateTimeField(null=True)  # since when it is not so any more, by a later audit

    class Meta:
        db_table = "violation"
        indexes = [
            models.Index(
                fields=["last_seen_at", "id"], name="violation_open", condition=Q(resolved_at__isnull=True)
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"], name="violation_once", condition=Q(resolved_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.invariant} {self.rule}: {self.subject}"
