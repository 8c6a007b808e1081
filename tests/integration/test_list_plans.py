"""With every combination of filters, `GET /v1/jobs` reads as many rows as its page holds, not as many as the tenant has."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from itertools import product

import pytest
from django.db import connection, transaction
from django.utils import timezone

from jobs.models import Job
from jobs.selectors import JobFilter, list_jobs
from jobs.states import State
from tests.support.factories import TenantFactory
from tests.support.keyed import write_record

LIMIT = 50
# The index orders the jobs of one operation in one state: a page of entries may be read of each, and the rows of the page.
MOST_ROWS = (LIMIT + 1) * (len(State) * len({"rare", "old", "new"}) + 1)
# Jobs of the tenant: a plan that reads all jobs of one filter reads more than MOST_ROWS.
SIZE = 20_000
NOW = timezone.now()

# One tenant's jobs, one a minute: the older half failed and was of operation "old", the newer half succeeded and is of "new"; few
# are otherwise. So each of two filters alone has thousands of jobs, and both together none or few. A key was used again each
# day; the other keys once. As many jobs are another tenant's, from the same time.
_FILL = """
    INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempt, attempts_left, max_attempts,
        run_at, queue, priority, created_at, finished_at, result, error, idempotency_key)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n || 'x' || tenant), 1, 3) || 'a'
            || substr(md5(n || 'x' || tenant), 4, 15))::uuid,
        tenant, 'test', CASE WHEN n %% 4999 = 7 THEN 'rare' WHEN n <= %(size)s / 2 THEN 'old' ELSE 'new' END, 1, '\\x017b7d',
        state, 1, 3, 3, at, 'default', 1,
        at, CASE WHEN state IN ('succeeded', 'failed') THEN at END, '\\x01', '\\x01',
        CASE WHEN n %% 1440 = 0 THEN 'daily' ELSE 'key-' || n END
    FROM (SELECT n, %(now)s - (%(size)s - n) * interval '1 minute' AS at,
            CASE WHEN n %% 6000 = 1 THEN 'queued' WHEN n <= %(size)s / 2 THEN 'failed' ELSE 'succeeded' END AS state
          FROM generate_series(1, %(size)s) AS n) AS numbers, unnest(%(tenants)s::bigint[]) AS tenant"""


@pytest.fixture(scope="module")
def _table(django_db_setup, django_db_blocker):
    """Create a tenant with many jobs once for all of these tests, in a transaction that is rolled back."""
    with django_db_blocker.unblock(), transaction.atomic():
        mine, other = TenantFactory(), TenantFactory()
        with connection.cursor() as cursor:
            cursor.execute(_FILL, {"size": SIZE, "now": NOW, "tenants": [mine.id, other.id]})
            cursor.execute("ANALYZE job")
        live = Job.objects.get(tenant_id=mine.id, idempotency_key="key-6001")
        write_record(live)
        yield mine
        transaction.set_rollback(True)


@pytest.fixture
def tenant(_table, db):
    """The tenant of a full table."""
    return _table


STATES = (None, State.SUCCEEDED, State.FAILED, State.QUEUED, State.UNKNOWN)
OPERATIONS = (None, "old", "new", "rare", "never")
KEYS = (None, "daily", "key-7", "key-6001", "never")  # key-6001: of a job that has not ended
HALFWAY = NOW - timedelta(minutes=SIZE // 2)
RANGES = {
    "at any time": {},
    "since a while": {"created_after": HALFWAY - timedelta(days=1)},
    "until a while ago": {"created_before": HALFWAY + timedelta(days=1)},
    "in between": {"created_after": HALFWAY - timedelta(days=1), "created_before": HALFWAY + timedelta(days=1)},
}


def rows_read(plan):
    """Count the rows that the scans of the table returned or discarded."""
    own = 0
    if plan.get("Relation Name") == "job":
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        own = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return own + sum(rows_read(part) for part in plan.get("Plans", ()))


class Reads:
    """Counts the rows that each statement reads, as it is run."""

    def __init__(self):
        self.rows, self.plans = 0, []

    def __call__(self, execute, sql, params, many, context):
        if re.match(r"\s*(WITH RECURSIVE|\(?SELECT\b.* FROM \"?job\b)", sql):
            execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", params, many, context)
            [(explained,)] = context["cursor"].fetchall()
            explained = json.loads(explained) if isinstance(explained, str) else explained
            self.plans.append(explained[0]["Plan"])
            self.rows += rows_read(explained[0]["Plan"])
        return execute(sql, params, many, context)


@pytest.mark.parametrize("between", RANGES.values(), ids=RANGES)
def test_a_page_reads_a_bounded_number_of_rows_for_any_combination_of_filters(tenant, between):
    names = ("id", "state", "operation", "idempotency_key", "created_at")
    everything = [*Job.objects.filter(tenant_id=tenant.id).order_by("-id").values(*names)]
    too_many = {}
    for state, operation, key in product(STATES, OPERATIONS, KEYS):
        wanted = JobFilter(state=state, operation=operation, idempotency_key=key, **between)
        fitting = [one["id"] for one in everything if _fits(one, wanted)]
        # The first page, and one deep in the list.
        for start in {0, max(0, len(fitting) - 5)}:
            reads = Reads()
            before = fitting[start - 1] if start else None
            with connection.execute_wrapper(reads):
                page = list_jobs(tenant_id=tenant.id, mode="test", job_filter=wanted, before=before, limit=LIMIT)
            assert [job.id for job in page.rows] == fitting[start : start + LIMIT]
            assert page.has_older == (len(fitting) > start + LIMIT)
            assert len(reads.plans) == 1
            if reads.rows > MOST_ROWS:
                too_many[state, operation, key, start] = reads.rows
    assert too_many == {}


def _fits(one, wanted):
    return (
        all(getattr(wanted, name) in (None, one[name]) for name in ("state", "operation", "idempotency_key"))
        and (wanted.created_after is None or one["created_at"] > wanted.created_after)
        and (wanted.created_before is None or one["created_at"] < wanted.created_before)
    )
