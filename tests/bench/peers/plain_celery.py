"""Celery without a database: a task is one call.

python -m tests.bench.peers.plain_celery COUNT: send so many tasks.
"""

import os
import sys

import celery

from tests.bench.slow_call import call_slow_service

app = celery.Celery("plain", broker=os.environ["BENCH_REDIS_URL"])
app.conf.update(task_ignore_result=True, task_acks_late=True)


@app.task(name="call")
def call() -> None:
    """Make the call."""
    call_slow_service(os.environ["BENCH_CALL_URL"])


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        call.delay()
