"""The Celery app and its task."""

import os

import celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.bench.peers.naive.settings")
app = celery.Celery("naive")
app.config_from_object(settings, namespace="CELERY")
app.autodiscover_tasks(["tests.bench.peers.naive"])


@app.task(name="run")
def run(job_id: str) -> None:
    """Mark the job as running, do its work, mark it as done."""
    from tests.bench.peers.naive.models import Job  # noqa: PLC0415 - models exist after setup()
    from tests.bench.slow_call import call_slow_service  # noqa: PLC0415

    job = Job.objects.get(pk=job_id)
    job.status = Job.Status.RUNNING
    job.save(update_fields=["status"])
    if job.operation == "call":
        call_slow_service(os.environ["BENCH_CALL_URL"], job_id)
    job.status = Job.Status.DONE
    job.save(update_fields=["status"])
