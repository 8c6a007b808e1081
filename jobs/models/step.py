"""The recorded steps of a job."""

from django.db import models
from django.db.models import Q

from foundation.row_rules import RowRules
from jobs.models.job import Job


class JobStep(models.Model):
    """A named, recorded part of an operation: an effect, a remembered result or a commit."""

    class Kind(models.TextChoices):
        """What the record of a step guarantees."""

        STEP = "step"  # a result remembered between attempts
        EFFECT = "effect"  # a change outside our database, recorded before and after
        COMMIT = "commit"  # a change inside our database, exactly once

    class State(models.TextChoices):
        """What is known about a step."""

        STARTED = "started"
        DONE = "done"
        NOT_DONE = "not_done"
        REFUSED = "refused"
        COMPENSATED = "compensated"

    pk = models.CompositePrimaryKey("job_id", "name")
    job = models.ForeignKey(Job, related_name="steps", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=6, choices=Kind.choices)
    state = models.CharField(max_length=11, choices=State.choices)
    generation = models.SmallIntegerField(db_default=1, default=1)
    downstream_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: not an effect
    # The downstream's id of the effect ("ch_…"), if its answer has one. It stays when the payload is erased.
    reference = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULL: it returned none
    attempt = models.IntegerField()  # the latest that wrote it
    first_started_at = models.DateTimeField()
    last_started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    result = models.BinaryField(null=True)  # encoded
    undoes = models.CharField(max_length=100, null=True)  # noqa: DJ001 - NULL: not a compensation

    class Meta:
        db_table = "job_step"
        indexes = [
            # For operators, across tenants: they have the downstream's id from its dashboard or a complaint.
            models.Index(fields=["reference"], name="job_step_by_reference", condition=Q(reference__isnull=False))
        ]
        constraints = [
            RowRules(
                table="job_step",
                rules={
                    "job_step_kind_is_known": "NEW.kind IN ('step', 'effect', 'commit')",
                    "job_step_state_is_known": """NEW.state IN
                        ('started', 'done', 'not_done', 'refused', 'compensated')""",
                    "job_step_only_effects_are_open": """CASE NEW.kind WHEN 'effect' THEN NEW.downstream_key IS NOT NULL
                        ELSE NEW.state = 'done' END""",
                    "job_step_done_has_a_result": "NEW.state <> 'done' OR NEW.result IS NOT NULL",
                    "job_step_ended_unless_started": "(NEW.state = 'started') = (NEW.ended_at IS NULL)",
                },
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.job_id} ({self.state})"

    @property
    def needs_new_key_on_redrive(self) -> bool:
        """True if a redrive must use a new downstream key: refused, compensated, or a finished compensation.

        A step that was not done keeps its key. If an earlier call still arrives, the downstream treats the next one as a repeat.
        """
        is_finished_compensation = self.undoes is not None and self.state == self.State.DONE
        return is_finished_compensation or self.state in (self.State.REFUSED, self.State.COMPENSATED)
