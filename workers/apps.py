"""The workers app."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """What runs jobs."""

    name = "workers"
    verbose_name = "Workers"

    def ready(self) -> None:
        """Jobs that become due are published, from whichever process made them due."""
        from jobs.signals import jobs_due  # noqa: PLC0415 - after the apps are loaded
        from workers.publisher import publish_jobs  # noqa: PLC0415

        def publish(*, due: object, **_signal: object) -> None:
            publish_jobs(due)  # type: ignore[arg-type]

        jobs_due.connect(publish, weak=False, dispatch_uid="publish_jobs")
