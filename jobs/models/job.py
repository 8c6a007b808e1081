"""A job, and the rules of jobs/states.py as constraints."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from foundation.row_rules import RowRules
from jobs.ids import job_resource
from jobs.states import State


class Priority(models.IntegerChoices):
    """The queue of a job."""

    HIGH = 0
    DEFAULT = 1
    LOW = 2


class Job(models.Model):
    """A job. There is no separate outbox table: workers claim due rows, and a hint only wakes a worker sooner."""

    id = models.UUIDField(primary_key=True, editable=False)  # UUIDv7, minted by the application
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)
    mode = models.CharField(max_length=4)
    operation = models.CharField(max_length=100)
    operation_version = models.SmallIntegerField()
    params = models.BinaryField()  # encoded
    result = models.BinaryField(null=True)  # encoded
    error = models.BinaryField(null=True)  # encoded
    # The error's code and cause again, to group and search failures. They are no payload, so an erasure keeps the code.
    error_code = models.CharField(max_length=30, null=True)  # noqa: DJ001 - NULL: no error
    error_cause = models.CharField(max_length=100, null=True)  # noqa: DJ001 - as error_code
    metadata = models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)
    state = models.CharField(max_length=9, choices=[(state.value, state.value) for state in State])
    attempt = models.IntegerField(db_default=0, default=0)  # the fencing token: it only rises
    attempts_left = models.SmallIntegerField()
    max_attempts = models.SmallIntegerField()
    # The next attempt only reconciles open effects. It starts no new effect.
    reconcile_only = models.BooleanField(db_default=False, default=False)
    open_effects = models.SmallIntegerField(db_default=0, default=0)  # started, outcome not recorded
    done_effects = models.SmallIntegerField(db_default=0, default=0)  # done and not compensated
    event_seq = models.IntegerField(db_default=1, default=1)
    run_at = models.DateTimeField(db_default=Now())
    # Left out of the claim index: paused, behind another job of its concurrency queue, or of an operation that maintenance does
    # not know. Only keeps the row out of the way of others: the guards of the claim decide.
    held = models.BooleanField(db_default=False, default=False)
    lease_expires_at = models.DateTimeField(null=True)  # in no index, so that a renewal stays a HOT update
    worker = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: not running
    deadline_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    erased_at = models.DateTimeField(null=True)  # params, result and errors are gone since then
    identity = models.BinaryField(null=True)  # digest of the business intent, if the operation defines one
    concurrency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: in no concurrency queue
    accept_seq = models.BigIntegerField(null=True)  # the order in its concurrency queue
    queue = models.CharField(max_length=50)
    priority = models.SmallIntegerField(choices=Priority.choices, default=Priority.DEFAULT)
    progress = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)  # of the latest attempt
    finished_at = models.DateTimeField(null=True)
    idempotency_record_id = models.BigIntegerField(null=True)  # no constraint: the record may be purged first
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: submitted without one
    # The request that submitted the job, for logs and traces. Stored in the row, because the sweep runs outside any request.
    request_id = models.CharField(max_length=128, null=True)  # noqa: DJ001 - NULL: submitted by no request
    traceparent = models.CharField(max_length=55, null=True)  # noqa: DJ001 - NULL: not traced (W3C Trace Context)

    class Meta:
        db_table = "job"
        # For all actions of operators; no form changes a job.
        permissions = [("operate_job", "Can cancel, redrive, resolve, release, pause and resume")]
        indexes = [
            # For claims, in their order. The jobs of one queue, and held jobs, are not in front of others.
            models.Index(fields=["queue", "run_at"], name="job_claim", condition=Q(state=State.QUEUED, held=False)),
            models.Index(fields=["id"], name="job_held", condition=Q(held=True)),
            models.Index(fields=["id"], name="job_running", condition=Q(state=State.RUNNING)),
            # For operators: latest failures; jobs that failed half done and were not redriven.
            models.Index(fields=["finished_at"], name="job_failed", condition=Q(state=State.FAILED)),
            models.Index(fields=["id"], name="job_partially_done", condition=Q(error_code="partially-done")),
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
            ),  # for the purge
            # For operators, across tenants. The other states have no such index, because every job would pay for it.
            models.Index(
                fields=["state", "id"],
                name="job_in_trouble",
                condition=Q(state__in=[State.FAILED, State.CANCELED, State.UNKNOWN]),
            ),
            # For every list of one tenant (tenant_jobs.py).
            models.Index(fields=["tenant", "mode", "operation", "state", "-id"], name="job_list"),
            # While a job has not ended, the record of its key names it.
            models.Index(
                fields=["tenant", "mode", "idempotency_key", "-id"],
                name="job_ended_by_key",
                condition=Q(idempotency_key__isnull=False, finished_at__isnull=False),
            ),
        ]
        constraints = [
            RowRules(
                table="job",
                rules={
                    "job_state_is_known": """NEW.state IN
                        ('queued', 'running', 'succeeded', 'failed', 'canceled', 'unknown')""",
                    "job_mode_is_known": "NEW.mode IN ('test', 'live')",
                    "job_queued_has_attempts": "NEW.state <> 'queued' OR NEW.attempts_left > 0",
                    "job_held_is_queued": "NOT NEW.held OR NEW.state = 'queued'",
                    "job_running_has_a_lease": """(NEW.state = 'running') = (NEW.lease_expires_at IS NOT NULL)
                        AND (NEW.state = 'running') = (NEW.worker IS NOT NULL)
                        AND (NEW.state <> 'running' OR NEW.attempt > 0)""",
                    "job_ended_has_no_open_effect": """(NEW.state IN ('succeeded', 'failed', 'canceled')) =
                        (NEW.finished_at IS NOT NULL) AND (NEW.finished_at IS NULL OR NEW.open_effects = 0)""",
                    "job_canceled_did_nothing": "NEW.state <> 'canceled' OR NEW.done_effects = 0",
                    "job_succeeded_has_a_result": "NEW.state <> 'succeeded' OR NEW.result IS NOT NULL",
                    "job_failed_or_unknown_says_why": "NEW.state NOT IN ('failed', 'unknown') OR NEW.error IS NOT NULL",
                    "job_attempts_left_within_max": "NEW.attempts_left <= NEW.max_attempts",
                    "job_counts_are_not_negative": "LEAST(NEW.attempts_left, NEW.open_effects, NEW.done_effects) >= 0",
                    "job_erased_has_ended": "NEW.erased_at IS NULL OR NEW.finished_at IS NOT NULL",
                },
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
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.id} ({self.state})"

    @property
    def resource(self) -> str:
        """The job's name in idempotency records, audit entries and findings."""
        return job_resource(self.id)
