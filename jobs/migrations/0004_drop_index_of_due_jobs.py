from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    """The index of due jobs over all queues is gone: job_queued_by_queue serves in its place.

    A sweeper of the release before is slower without it (it sorts the queued jobs), and right all the same.
    """

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0003_find_due_jobs_by_queue")]

    operations = [RemoveIndexConcurrently("job", "job_queued_by_publish")]
