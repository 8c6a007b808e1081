"""The tables of jobs, one file per noun. Their constraints repeat states.py, so that the database refuses illegal states.

No foreign key between these tables is enforced: every child row is written and purged by a statement that has locked its job's
row. Enforcing it would cost each accept and each transition a second lock.
"""

from jobs.models.artifact import JobArtifact, OrphanedFile
from jobs.models.attempt import JobAttempt
from jobs.models.bulk_action import BulkAction
from jobs.models.event import JobEvent
from jobs.models.job import Job, Priority
from jobs.models.pause import Pause
from jobs.models.step import JobStep
from jobs.models.violation import Violation

__all__ = [
    "BulkAction",
    "Job",
    "JobArtifact",
    "JobAttempt",
    "JobEvent",
    "JobStep",
    "OrphanedFile",
    "Pause",
    "Priority",
    "Violation",
]
