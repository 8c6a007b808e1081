from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    """The index by operation alone is gone: job_list_by_operation_state serves in its place.

    A list by operation of the release before is slower without it (it sorts that operation's jobs), and right all the same.
    """

    atomic = False  # as CONCURRENTLY demands

    dependencies = [("jobs", "0019_find_jobs_by_operation_and_state")]

    operations = [RemoveIndexConcurrently("job", "job_list_by_operation")]
