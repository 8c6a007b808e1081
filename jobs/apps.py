"""The jobs app."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """The job: its states, transitions and services."""

    name = "jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        """Register the system checks, and the filter with which `idempotency` finds out which jobs have ended."""
        # Models can be imported only now, when all apps are loaded.
        from idempotency.key_lifetime import register_ended_filter  # noqa: PLC0415
        from jobs import checks  # noqa: F401, PLC0415 - registers its checks
        from jobs.selectors import filter_ended  # noqa: PLC0415 - imports models

        register_ended_filter(filter_ended)
