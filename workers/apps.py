"""The workers app."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """What runs jobs."""

    name = "workers"
    verbose_name = "Workers"

    def ready(self) -> None:
        """Jobs that become due are published, and waiters woken, from whichever process changed the job."""
        from broker.wakeups import publish_wakeup  # noqa: PLC0415
        from jobs.signals import job_changed, jobs_due  # noqa: PLC0415 - after the apps are loaded
        from workers.publisher import publish_new  # noqa: PLC0415

        def publish(*, due: object, **_signal: object) -> None:
            publish_new(due)  # type: ignore[arg-type]

        def wake(*, change: object, **_signal: object) -> None:
            publish_wakeup(change)  # type: ignore[arg-type]

        jobs_due.connect(publish, weak=False, dispatch_uid="publish_jobs")
        job_changed.connect(wake, weak=False, dispatch_uid="publish_wakeup")
