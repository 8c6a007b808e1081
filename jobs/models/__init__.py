"""The job's rows, a file for each noun. Their constraints repeat states.py: the database refuses what the table does not allow.

No foreign key is enforced between these tables: every child row is written by the statement that holds its job's row, and
purged under the same lock; enforcing it would cost each accept and each transition a second lock.
"""

from jobs.models.artifact import JobArtifact, StrayFile
from jobs.models.attempt import JobAttempt
from jobs.models.bulk_action import BulkAction
from jobs.models.event import JobEvent
from jobs.models.job import PARKED, Job, Priority
from jobs.models.pause import Pause
from jobs.models.step import JobStep
from jobs.models.violation import Violation

__all__ = [
    "PARKED",
    "BulkAction",
    "Job",
    "JobArtifact",
    "JobAttempt",
    "JobEvent",
    "JobStep",
    "Pause",
    "Priority",
    "StrayFile",
    "Violation",
]
