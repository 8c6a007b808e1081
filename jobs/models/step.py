"""What a job has done, or is about to do, step by step."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from jobs.models.job import Job


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
    result = models.BinaryField(null=True)  # encoded
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
