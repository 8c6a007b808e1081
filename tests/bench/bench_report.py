"""What a large report costs: `python3 run.py test -n 0 -s tests/bench/bench_report.py` (BENCH_REPORT_ROWS=1000000; some minutes).

A process of its own makes the report of so many jobs, a fifth of them charges, and is looked at from outside.
It prints figures, and fails only where something did not work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from django.db import connection

from jobs.payloads import encode_payload
from jobs.registry import current_operation
from jobs.submission import Submission, submit_job
from tests.support.factories import TenantFactory

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = int(os.environ.get("BENCH_REPORT_ROWS", "1000000"))
KINDS = os.environ.get("BENCH_REPORT_FORMATS", "csv").split(",")
PERIOD = {"from": "2026-01-01", "to": "2026-12-31"}

# Evenly over a year's first ten months.
_FILL = """
    INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempt, attempts_left, max_attempts,
        run_at, queue, priority, created_at, finished_at, result)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || 'a'
            || substr(md5(n::text), 4, 15))::uuid,
        %(tenant)s, 'test', CASE WHEN n %% 5 = 0 THEN 'payments.charge' ELSE 'test.scripted' END, 1, '\\x017b7d',
        'succeeded', 1, 2, 3, at, 'default', 1, at, at, %(result)s
    FROM (SELECT n, '2026-01-01T00:00:00Z'::timestamptz + n * interval '300 days' / %(rows)s AS at
          FROM generate_series(1, %(rows)s) AS n) AS numbers"""

# One delivery, as a worker's; then what it took.
_CHILD = """
import json, sys, time
import django
django.setup()
from django.conf import settings
from django.db import connection
settings.STORAGES["artifacts"] = {"BACKEND": "jobs.artifact_storage.ArtifactFolder", "OPTIONS": {"location": sys.argv[2]}}
from workers.executor import execute_job
def peak():  # of this program alone: ru_maxrss begins with what the parent had
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
began_at = time.perf_counter()
job = execute_job(sys.argv[1])
took = time.perf_counter() - began_at
print(json.dumps([job.state, took, before, peak()]))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_report_needs_no_more_memory_than_a_small_one(tmp_path, kind):
    tenant = TenantFactory()
    result = encode_payload({"charge_id": "ch_1", "amount": 1999, "currency": "usd", "status": "succeeded"})
    began_at = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(_FILL, {"tenant": tenant.id, "result": result, "rows": ROWS})
        cursor.execute("ANALYZE job")
    print(f"\n{ROWS} jobs made in {time.perf_counter() - began_at:.0f} s")
    submission = Submission(operation=current_operation("reports.generate"), params={"format": kind, **PERIOD})
    job = submit_job(tenant_id=tenant.id, mode="test", submission=submission)
    database = connection.settings_dict
    url = (
        f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    )
    ran = subprocess.run(
        [sys.executable, "-c", _CHILD, str(job.id), str(tmp_path)],
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "config.settings"},
        stdout=subprocess.PIPE,
        check=True,
    )
    state, seconds, before, peak = json.loads(ran.stdout.splitlines()[-1])
    assert state == "succeeded"
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    print(
        f"{kind}: {ROWS} rows in {seconds:.1f} s ({ROWS / seconds:.0f} rows/s), {file.stat().st_size / 1e6:.0f} MB;"
        f" peak RSS {peak / 1024:.0f} MiB, of it {before / 1024:.0f} MiB before the report"
    )
    if kind == "csv":
        with file.open("rb") as content:
            assert sum(1 for _ in content) == ROWS + 1
