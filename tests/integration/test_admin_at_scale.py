"""Admin pages cost the same with 100,000 jobs as with ten: no count, no OFFSET, no scan of a whole table.

`--rows 1000000 --durations=40` measures the same at another size.
"""

from __future__ import annotations

import re

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import Tenant
from jobs.models import Job
from operators.admin.list_page import ROWS
from tests.support.admin_pages import JOBS, client_of, job_ids, user_with
from tests.support.crowded_table import fill_jobs

pytestmark = pytest.mark.django_db

# What Django itself reads for a page: session, user, permissions of the user and of the groups; and our time-out's statement.
FRAME = 5
TENANTS = 200
# A job's page: the job, its tenant, attempts, events, record and steps.
PAGE = 6
# Rows of the job table that a page may read: a few pages, or a queue that has to be sorted.
ROWS_READ_MAX = 2_000
SKIPPED = 30_000


@pytest.fixture(scope="module")
def _table(request, django_db_setup, django_db_blocker):
    """Fill the table once for all of these tests, in a transaction that is rolled back."""
    with django_db_blocker.unblock(), transaction.atomic():
        tenants = Tenant.objects.bulk_create(Tenant(name=f"crowd-{number}") for number in range(TENANTS))
        fill_jobs(rows=request.config.getoption("--rows"), tenant_id=tenants[0].id)
        yield tenants
        transaction.set_rollback(True)


@pytest.fixture
def crowd(_table, db):
    """Return the tenants of a full table; what the test writes is rolled back."""
    return _table


@pytest.fixture
def reader(crowd):
    return client_of(user_with("view_job", "view_tenant"))


def fetch(client, path, **filters):
    """Return the response and the statements of its page."""
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path, filters)
    statements = [query["sql"] for query in queries.captured_queries]
    return answer, [sql for sql in statements if "SAVEPOINT" not in sql]  # the page's own BEGIN and COMMIT


FILTERS = [
    {},
    {"state": "failed"},
    {"state": "unknown"},
    {"state": "canceled"},
    {"state": "queued"},
    {"state": "running"},
    {"state": "succeeded"},
    {"mode": "live"},
    {"priority": "1"},
    {"operation": "payments.charge"},
    {"operation": "payments.charge", "state": "failed", "mode": "live"},
    {"created_to": "2001-01-01T00:00"},
]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_a_page_of_the_list_takes_four_statements_with_any_filter(reader, filters):
    answer, statements = fetch(reader, JOBS, **filters)
    assert answer.status_code == 200
    assert len(statements) <= FRAME + 4  # the jobs, their tenants, the tenants to choose from, the one that is chosen
    assert not [sql for sql in statements if re.search(r"COUNT\(|OFFSET", sql)]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_each_filter_reads_a_bounded_number_of_rows(reader, filters):
    _, statements = fetch(reader, JOBS, **filters)
    # A second filter on top of a rare state may read all jobs of that state.
    assert_little_is_read(statements, at_most=max(ROWS_READ_MAX, Job.objects.filter(state="failed").count()))


@pytest.mark.parametrize("filters", [{}, {"state": "failed"}, {"mode": "live"}], ids=str)
def test_a_page_in_the_middle_costs_as_much_as_the_first(reader, filters):
    middle = str(Job.objects.order_by("id").values_list("id", flat=True)[SKIPPED])
    for place in ("older_than", "newer_than"):
        answer, statements = fetch(reader, JOBS, **filters, **{place: middle})
        assert len(job_ids(answer)) == ROWS
        assert_little_is_read(statements)


def test_a_tenants_jobs_are_found_by_its_own_index(reader, crowd):
    for filters in (
        {"mode": "test"},
        {"mode": "test", "state": "failed"},
        {"mode": "live", "operation": "rare.operation"},
    ):
        _, statements = fetch(reader, JOBS, tenant=str(crowd[7].id), **filters)
        assert_little_is_read(statements)


def test_a_search_reads_only_its_hits(reader):
    for text in ("key-4711", "request-4711", "nothing-is-called-so"):
        _, statements = fetch(reader, JOBS, q=text)
        assert_little_is_read(statements)


def test_a_jobs_page_takes_few_statements(reader):
    job = Job.objects.filter(state="failed").order_by("-id").first()
    answer, statements = fetch(reader, f"{JOBS}{job.id}/")
    assert answer.status_code == 200
    assert len(statements) <= FRAME + PAGE
    assert_little_is_read(statements)


@pytest.mark.parametrize("path", ["/admin/", f"{JOBS}attention/", f"{JOBS}errors/"])
def test_the_attention_pages_take_a_bounded_number_of_statements(reader, path):
    answer, statements = fetch(reader, path)
    assert answer.status_code == 200
    # The instant, three for each of five kinds, two for the pauses, the violations.
    assert len(statements) <= FRAME + 19


def assert_little_is_read(statements, *, at_most=ROWS_READ_MAX):
    """Assert that no statement reads many rows of the job table."""
    for sql in statements:
        if 'FROM "job"' in sql:
            assert rows_read(sql) <= at_most, sql


def rows_read(sql):
    """Return the rows that the statement's scans read, including those that they then filtered out."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}")
        return sum(scanned(cursor.fetchone()[0][0]["Plan"]))


def scanned(node):
    """Yield the rows that each scan below the node read."""
    if "Relation Name" in node:
        met = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        yield met * node["Actual Loops"]
    for child in node.get("Plans", []):
        yield from scanned(child)
