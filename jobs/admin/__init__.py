"""The admin's pages of jobs: to find, to look and to act. What changes a job is a service, never a form over its columns."""

from jobs.admin import bulk_progress, job, keys, pauses, violation

__all__ = ["bulk_progress", "job", "keys", "pauses", "violation"]
