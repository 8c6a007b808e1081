"""The jobs app."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """The job: states, transitions, services."""

    name = "jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        """`idempotency` can ask whether what a key started has ended."""
        # Models can be imported only now, when every app is loaded.
        from idempotency.key_lifetime import register_ended_filter  # noqa: PLC0415
        from jobs import checks  # noqa: F401, PLC0415 - registers them
        from jobs.selectors import filter_ended  # noqa: PLC0415

        register_ended_filter(filter_ended)
