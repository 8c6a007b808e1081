"""Each hot query is served by the index that its docstring names, on a table large enough for the planner to have a choice."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.utils import timezone
from uuid_utils import uuid7

from jobs import transitions
from jobs.models import BulkAction, Job, Pause
from jobs.payloads import encode_payload
from jobs.queries.claim import _FIRST, NextJob, claim_next, find_next, succeed_and_claim_next
from jobs.queries.held import hold_front, release_resumed_jobs
from jobs.queries.lease import LeaseKey, renew_leases
from jobs.queries.purge import FIRST_ENDED, delete_jobs, lock_ended_batch, time_ago
from jobs.queries.selfaudit import JOB_RULES, LAST_ID, accepted_since, broken_jobs, ended_since, overdue_jobs, owners_of
from jobs.queries.statistics import _COUNT_BY_STATE, _DUE, count_by_operation, due_jobs
from jobs.queries.sweep import _QUEUES, FIRST_DEADLINE, expired_leases, find_due, jobs_past_deadline, list_queues
from jobs.queries.watch import events_after, positions_after
from jobs.selectors import JobFilter, count_jobs_between, jobs_between, list_jobs
from jobs.services import redrive_job
from jobs.states import State
from operators.attention import group_errors, needs_attention
from operators.bulk_actions import preview, start_bulk_action
from operators.bulk_worker import steps
from operators.pauses import list_pauses
from operators.search import find_jobs
from tests.support.factories import TenantFactory, claim, claimed_job, queued_job
from tests.support.keyed import keyed_job
from tests.support.scenarios import in_state, write

HOUR = timedelta(hours=1)

# 30,000 jobs of 100 tenants in the last 30 days. Most have succeeded; some wait, few of them due; few run, few of those too long.
_FILL = """
    INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempt, attempts_left, max_attempts,
        run_at, lease_expires_at, worker, deadline_at, concurrency_key, accept_seq, queue, priority,
        created_at, finished_at, result, error, idempotency_key)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || 'a'
            || substr(md5(n::text), 4, 15))::uuid,
        %(tenant)s + abs(hashint4(n)) %% 100, 'test',
        CASE WHEN n %% 20 = 0 THEN 'test.scripted' ELSE 'payments.charge' END, 1, '\\x017b7d',
        state, CASE state WHEN 'queued' THEN 0 ELSE 1 END, 3, 3,
        CASE state WHEN 'queued' THEN now() + (n %% 600 - 30) * interval '1 second' ELSE at END,
        CASE state WHEN 'running' THEN now() + (n %% 50 - 5) * interval '1 minute' END,
        CASE state WHEN 'running' THEN 'w' END,
        CASE WHEN n %% 100 = 1 THEN now() + (n %% 1000 - 30) * interval '1 second' END,
        CASE WHEN n %% 50 = 2 THEN 'account-' || n END, n, 'default', 1,
        at, CASE WHEN state IN ('succeeded', 'failed') THEN at END, '\\x016e756c6c', '\\x01', 'key-' || n
    FROM (SELECT n, now() - (30000 - n) * interval '86 seconds' AS at,
            CASE WHEN n > 29900 THEN 'running' WHEN n > 28500 THEN 'queued' WHEN n %% 20 = 3 THEN 'failed'
                 ELSE 'succeeded' END AS state
          FROM generate_series(1, 30000) AS n) AS numbers"""


_BACKLOG = """
    INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempts_left, max_attempts, run_at,
        queue, priority)
    SELECT gen_random_uuid(), 1, 'test', 'payments.charge', 1, '', 'queued', 3, 3, at, 'backlog', 1
    FROM (SELECT now() - n * interval '1 second' - interval '1 hour' AS at FROM generate_series(1, 20000) AS n) AS numbers"""


@pytest.fixture(scope="module")
def _table(django_db_setup, django_db_blocker):
    """Fill the table once for all of these tests, in a transaction that is rolled back."""
    with django_db_blocker.unblock(), transaction.atomic():
        tenant = TenantFactory()
        with connection.cursor() as cursor:
            cursor.execute(_FILL, {"tenant": tenant.id})
            cursor.execute("ANALYZE job")
        yield tenant
        transaction.set_rollback(True)


@pytest.fixture
def full(_table, db):
    """Return the tenant of a full table; what the test writes is rolled back."""
    return _table


# By themselves: which index finds a few steps or events of a job is another matter, and hangs on how full their tables were.
OF_JOBS = {"job_pkey", *(kept.name for kept in (*Job._meta.indexes, *Job._meta.constraints))}
# The order of a concurrency queue, and its running job.
CONCURRENCY_QUEUE = ("job_concurrency_order", "job_one_running_per_concurrency_key")


class Plans:
    """Explain each statement before it runs."""

    def __init__(self):
        self.texts = []

    def __call__(self, execute, sql, params, many, context):
        if re.match(r"\s*\(?(SELECT|INSERT|UPDATE|DELETE|WITH)\b", sql):
            execute(f"EXPLAIN {sql}", params, many, context)
            self.texts.append("\n".join(line for (line,) in context["cursor"].fetchall()))
        return execute(sql, params, many, context)

    @property
    def indexes(self):
        """Name the indexes that find the jobs."""
        found = re.findall(r"Index (?:Only )?Scan (?:Backward )?using (\w+) on job\b", "\n".join(self.texts))
        return {*found, *re.findall(r"Bitmap Index Scan on (job_\w+)", "\n".join(self.texts))} & OF_JOBS

    @property
    def step_indexes(self):
        """Name the indexes that find steps by something else than their job."""
        text = "\n".join(self.texts)
        assert "Seq Scan on job_step" not in text, text
        return {*re.findall(r"using (job_step_by_\w+) on", text), *re.findall(r"Scan on (job_step_by_\w+)", text)}

    @property
    def indexed_by_id(self):
        """Whether each statement that looks for a job looks for its id."""
        looks = [text for text in self.texts if re.search(r" on job\b", text)]
        return all(re.search(r"Index Cond: .*\bid = '", text) for text in looks)


def plan(action):
    plans = Plans()
    with connection.execute_wrapper(plans):
        result = action()
    text = "\n".join(plans.texts)
    assert text, "no statement was seen"
    assert not re.search(r"Seq Scan on job\b", text), text
    return plans, result


def analyzed(statement, **values):
    """Run the statement and return its plan with the rows that each node read."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {statement}", values)
        return "\n".join(line for (line,) in cursor.fetchall())


def rows_read(text):
    """Return how many rows the scans of an analyzed plan returned in total."""
    scans = re.findall(r"Scan .* on job .*rows=([\d.]+) loops=(\d+)", text)
    assert scans, text
    return sum(float(rows) * int(loops) for rows, loops in scans)


def test_jobs_of_a_period_are_read_and_counted_by_the_tenants_list(full):
    week = {"tenant_id": full.id, "mode": "test", "start": timezone.now() - 7 * 24 * HOUR, "end": timezone.now()}
    plans, count = plan(lambda: count_jobs_between(**week))
    assert plans.indexes == {"job_list"}
    read = {**week, "results_of": "payments.charge", "limit": 20}
    plans, first = plan(lambda: jobs_between(**read, after=None))
    assert plans.indexes == {"job_list", "job_pkey"}
    plans, then = plan(lambda: jobs_between(**read, after=first[-1].id))
    assert plans.indexes == {"job_list", "job_pkey"}
    ids = [job.id for job in first + then]
    assert len({*ids}) == 40 < count
    assert ids == sorted(ids)


def test_a_claim_finds_its_job_by_its_key(full):
    job = queued_job(full)
    plans, claimed = plan(lambda: claim(job.id))
    assert claimed is not None
    assert plans.indexes == {"job_pkey", *CONCURRENCY_QUEUE}


@pytest.mark.parametrize(
    "settle",
    [
        lambda held: transitions.succeed_job(**held, result=encode_payload(1)),
        lambda held: transitions.fail_job(**held, detail="no", cause="no"),
        lambda held: transitions.retry_job(**held, delay=HOUR, detail="later", cause="test"),
        lambda held: transitions.expire_job(**held, delay=HOUR),
    ],
    ids=["succeed", "fail", "retry", "expire"],
)
def test_what_a_worker_writes_finds_its_job_by_its_id(full, settle):
    """By the primary key or among the running jobs: both read one row."""
    job = claimed_job(full)
    plans, _ = plan(lambda: settle({"job_id": job.id, "attempt": job.attempt}))
    assert plans.indexes
    assert plans.indexes <= {"job_pkey", "job_running", "job_held", *CONCURRENCY_QUEUE}
    assert plans.indexed_by_id


def test_a_renewal_of_many_leases_reads_running_jobs_only(full):
    held = [LeaseKey(claimed_job(full).id, 1, HOUR) for _ in range(32)]
    plans, renewal = plan(lambda: renew_leases(held, lease=HOUR))
    assert len(renewal.renewed) == 32
    # By their ids, or among the running jobs: the plan depends on how many those are.
    assert plans.indexes <= {"job_pkey", "job_running"}


def test_the_next_job_of_a_long_concurrency_queue_is_its_first_index_entry(full):
    """Neither the claim nor the end of the first job reads the jobs behind the second."""
    jobs = [queued_job(full, concurrency_key="a-key") for _ in range(200)]
    plans, held = plan(lambda: claim(jobs[0].id))
    assert set(CONCURRENCY_QUEUE) <= plans.indexes
    plans, _ = plan(lambda: transitions.succeed_job(job_id=held.id, attempt=1, result=encode_payload(1)))
    assert set(CONCURRENCY_QUEUE) <= plans.indexes <= {"job_pkey", "job_running", "job_held", *CONCURRENCY_QUEUE}
    lock, text = plans.texts
    assert "job_pkey" in lock
    assert "Sort" not in text
    assert re.search(
        r"Limit.*\n(?: +InitPlan.*\n +-> +Result.*\n)? +-> +Index Scan using job_concurrency_order", text
    ), text


def test_a_redrive_finds_its_job_and_its_steps_by_their_keys(full):
    job = claimed_job(full)
    transitions.fail_job(job_id=job.id, attempt=1, detail="no", cause="no")
    plans, _ = plan(lambda: redrive_job(tenant_id=full.id, mode="test", job_id=job.id))
    assert plans.indexes <= {"job_pkey", "job_list", *CONCURRENCY_QUEUE}
    assert plans.indexed_by_id


@pytest.fixture
def backlog(full):
    """Insert 20,000 jobs of another queue that have been due for longer than all others.

    The planner may prefer to scan the table for so large a part of it; the test asks which index serves instead.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(_BACKLOG)
        cursor.execute("ANALYZE job")
    return full


def wanted(queue, *, due_from=FIRST_DEADLINE.deadline_at):
    return NextJob(
        queue=queue,
        due_from=due_from,
        worker="w",
        lease=HOUR,
        known_operations=["payments.charge@1", "test.scripted@1"],
    )


def test_the_next_job_of_a_queue_is_its_first_due_index_entry(backlog):
    """All of the other queue's backlog has been due for longer."""
    plans, job = plan(lambda: claim_next(wanted("default")))
    assert job.queue == "default"
    assert "job_claim" in plans.indexes
    assert plans.indexes <= {"job_claim", "job_pkey", *CONCURRENCY_QUEUE}
    assert "Sort" not in plans.texts[-1], plans.texts[-1]
    plans, found = plan(lambda: find_next(wanted("backlog")))
    assert found is not None
    assert plans.indexes <= {"job_claim", *CONCURRENCY_QUEUE}


def test_a_settle_with_the_next_claim_finds_both_jobs_by_their_keys(backlog):
    held = claimed_job(backlog)
    succeed = partial(succeed_and_claim_next, job_id=held.id, attempt=1, result=encode_payload(1))
    plans, (is_settled, job) = plan(lambda: succeed(wanted=wanted("backlog")))
    assert is_settled
    assert job.queue == "backlog"
    assert "job_claim" in plans.indexes
    assert plans.indexes <= {"job_claim", "job_pkey", "job_running", *CONCURRENCY_QUEUE}


# What makes each of the 20,000 jobs of the backlog wait.
CROWDS = {
    "paused": "operation = 'payments.paused'",
    "of an unknown operation": "operation_version = 2",
    "blocked": "concurrency_key = 'a-key', accept_seq = 1000000 + abs(hashtext(id::text)::bigint)",
}


@pytest.fixture(params=CROWDS.values(), ids=CROWDS)
def crowd(request, backlog):
    """Make the backlog a crowd that cannot be claimed, in front of one job; return that job."""
    write(
        queued_job(backlog, concurrency_key="a-key").id,
        "tenant_id = 1, state = 'running', attempt = 1, worker = 'w', lease_expires_at = now()",
    )
    Pause.objects.create(by="user ada", note="a test", operation="payments.paused")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE job SET {request.param} WHERE queue = 'backlog'")
        cursor.execute("ANALYZE job")
    return write(queued_job(backlog).id, "queue = 'backlog'")


def test_a_crowd_in_front_costs_a_claim_nothing_once_it_is_held(crowd):
    known = wanted("backlog").known_operations
    while hold_front(queue="backlog", limit=5_000, known_operations=known):
        pass
    assert Job.objects.filter(queue="backlog", held=True).count() == 20_000
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE job")
    values = wanted("backlog").values()
    text = analyzed(_FIRST, **values)
    assert "job_claim" in text
    assert not re.search(r"Rows Removed by Filter: \d{2,}", text), text
    assert rows_read(text) == 1
    assert claim_next(wanted("backlog")).id == crowd.id
    assert claim_next(wanted("backlog")) is None


def test_a_lower_bound_skips_the_entries_of_claimed_jobs(backlog):
    """The test's own transaction is the old snapshot: nothing that it updates can be removed from the index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT run_at FROM job WHERE queue = 'backlog' ORDER BY run_at OFFSET 15000 LIMIT 1")
        (due_from,) = cursor.fetchone()
        cursor.execute(
            "UPDATE job SET state = 'running', attempt = 1, worker = 'w', lease_expires_at = now()"
            " WHERE queue = 'backlog' AND run_at < %s",
            [due_from],
        )
        cursor.execute("ANALYZE job")
    read = {}
    for name, bound in (("from the beginning", FIRST_DEADLINE.deadline_at), ("from a bound", due_from)):
        with connection.cursor() as cursor:
            cursor.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) {_FIRST}",
                wanted("backlog", due_from=bound).values(),
            )
            text = "\n".join(line for (line,) in cursor.fetchall())
        read[name] = int(re.search(r"shared hit=(\d+)", text)[1])
    assert read["from the beginning"] > 300
    assert read["from a bound"] < 30


def test_due_jobs_are_read_in_their_order(backlog):
    write(queued_job(backlog).id, "queue = 'quiet', run_at = now() + interval '1 hour'")
    plans, queues = plan(list_queues)
    assert (queues, plans.indexes) == (["backlog", "default", "quiet"], {"job_claim"})
    plans, due = plan(lambda: find_due(queues, limit=20, ahead=timedelta(0)))
    assert plans.indexes == {"job_claim"}
    assert [sum(job.queue == queue for job in due) for queue in queues] == [20, 20, 0]


def test_queues_are_found_by_one_index_entry_each(backlog):
    assert rows_read(analyzed(_QUEUES)) <= 2 * 3


def test_jobs_that_must_wait_are_looked_for_at_the_front_only(backlog):
    plans, held = plan(lambda: hold_front(queue="backlog", limit=20, known_operations=["payments.charge@1"]))
    assert held == 0
    assert "job_claim" in plans.indexes
    assert plans.indexes <= {"job_claim", *CONCURRENCY_QUEUE}


def test_expired_leases_are_found_among_the_running_jobs_only(full):
    plans, expired = plan(lambda: expired_leases(limit=500))
    assert 0 < len(expired) < 100
    assert plans.indexes == {"job_running"}


@pytest.mark.parametrize("first", [True, False], ids=["first batch", "later batch"])
def test_passed_deadlines_are_found_among_the_jobs_with_a_deadline_only(full, first):
    write(queued_job(full).id, "deadline_at = clock_timestamp()")
    after = FIRST_DEADLINE if first else jobs_past_deadline(limit=1)[0]
    plans, lapsed = plan(lambda: jobs_past_deadline(limit=500, after=after))
    assert lapsed
    assert plans.indexes == {"job_queued_by_deadline"}


def test_jobs_past_their_retention_are_read_in_the_order_of_their_ends(full):
    until = time_ago(timedelta(days=10))
    first = lock_ended_batch(until=until, after=FIRST_ENDED, limit=500)
    plans, second = plan(lambda: lock_ended_batch(until=until, after=first[-1], limit=500))
    assert (len(second), plans.indexes) == (500, {"job_ended"})
    assert not re.search("Sort|Filter", plans.texts[-1]), plans.texts[-1]


def test_jobs_are_deleted_with_their_history_by_primary_keys(full):
    gone = [job.id for job in lock_ended_batch(until=time_ago(HOUR), after=FIRST_ENDED, limit=50)]
    _fill_the_history(full)
    plans, count = plan(lambda: delete_jobs(gone))
    assert (count, "job_pkey" in plans.indexes) == (50, True)
    assert "Seq Scan" not in plans.texts[-1], plans.texts[-1]


def _fill_the_history(tenant):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)"
            " SELECT id, seq, 'submit', 0, '{}', created_at FROM job, generate_series(1, 3) AS seq"
        )
        cursor.execute(
            "INSERT INTO job_attempt (job_id, number, worker, started_at) SELECT id, 1, 'w', created_at FROM job"
        )
        cursor.execute(
            "INSERT INTO job_step (job_id, name, kind, state, attempt, first_started_at, last_started_at, ended_at, result)"
            " SELECT id, 'book', 'step', 'done', 1, created_at, created_at, created_at, '' FROM job"
        )
        cursor.execute("ANALYZE job_event, job_attempt, job_step")


NOW = timezone.now()
LISTS = {
    "plain": ({}, "job_list", 50),
    "by state": ({"state": State.SUCCEEDED}, "job_list", 50),
    "by a state without jobs": ({"state": State.UNKNOWN}, "job_list", 0),
    "by operation and state": ({"operation": "payments.charge", "state": State.SUCCEEDED}, "job_list", 50),
    "by an unused key": ({"idempotency_key": "none"}, "job_ended_by_key", 0),
    "by the key of an ended job": ({"idempotency_key": "ended"}, "job_ended_by_key", 1),
    "by the key of a live job": ({"idempotency_key": "live"}, "job_ended_by_key", 1),
}
RANGES = {
    "since the beginning": {"created_after": NOW - timedelta(days=40)},
    "until now": {"created_before": NOW},
    "by a week": {"created_after": NOW - timedelta(days=16), "created_before": NOW - timedelta(days=9)},
    "by an hour": {"created_after": NOW - timedelta(days=9, hours=1), "created_before": NOW - timedelta(days=9)},
}


def page(tenant, wanted, *, before=None):
    listed = list_jobs(tenant_id=tenant.id, mode="test", job_filter=wanted, before=before, limit=50)
    return listed.rows


@pytest.mark.parametrize(("wanted", "index", "rows"), LISTS.values(), ids=LISTS)
def test_a_page_of_jobs_is_read_from_its_index(full, wanted, index, rows):
    keyed_job(full, "live")
    write(in_state(full, State.CANCELED).id, "idempotency_key = 'ended'")
    plans, jobs = plan(lambda: page(full, JobFilter(**wanted)))
    assert len(jobs) == rows
    assert index in plans.indexes
    assert plans.indexes <= {index, "job_pkey"}


@pytest.mark.parametrize("wanted", RANGES.values(), ids=RANGES)
def test_a_range_of_time_is_a_range_of_the_index(full, wanted):
    plans, jobs = plan(lambda: page(full, JobFilter(**wanted)))
    assert plans.indexes <= {"job_list", "job_pkey"}
    assert re.search(r"Index Cond: .*\bid\b", plans.texts[-1]), plans.texts[-1]
    after, before = wanted.get("created_after", NOW - timedelta(days=99)), wanted.get("created_before", NOW)
    mine = Job.objects.filter(tenant_id=full.id, created_at__gt=after, created_at__lt=before)
    assert jobs == list(mine.order_by("-id")[:50])


def test_the_last_page_is_a_range_of_the_index_as_the_first(full):
    oldest = Job.objects.filter(tenant_id=full.id).order_by("id")[100]
    plans, jobs = plan(lambda: page(full, JobFilter(), before=oldest.id))
    assert (plans.indexes, len(jobs)) == ({"job_list", "job_pkey"}, 50)
    assert re.search(r"Index Cond: .*\bid < ", plans.texts[-1]), plans.texts[-1]


@pytest.mark.parametrize("count", [1, 100, 5000])
def test_watched_jobs_are_looked_up_by_their_keys_however_many_they_are(full, count):
    """The planner would scan a table of 30,000 rows for 5,000 of them, and so a table of thirty million rows as well."""
    known = dict.fromkeys(Job.objects.values_list("id", flat=True)[:count], 0)
    plans, positions = plan(lambda: positions_after(known))
    assert plans.indexes == {"job_pkey"}
    assert positions.keys() == known.keys()
    assert positions_after({job_id: position.seq for job_id, position in positions.items()}) == {}


@pytest.mark.parametrize("count", [1, 200])
def test_events_of_many_jobs_are_ranges_of_their_key(full, count):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)"
            " SELECT id, seq, 'claim', 1, '{}', now() FROM job, generate_series(1, 4) AS seq ON CONFLICT DO NOTHING"
        )
        cursor.execute("ANALYZE job_event")
    known = [(job_id, 1) for job_id in Job.objects.values_list("id", flat=True)[:count]]
    plans, events = plan(lambda: events_after(known, limit=2))
    text = plans.texts[-1]
    assert "Seq Scan on job_event" not in text, text
    assert re.search(r"Index Cond: .*job_id = known.id\) AND \(seq > known.seq", text), text
    assert {key: [event.seq for event in found] for key, found in events.items()} == {key: [2, 3] for key in known}


def test_a_job_is_found_by_each_of_its_identifiers_across_tenants(full):
    request_id = str(uuid7())
    job = claimed_job(full)
    transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause="no")
    write(job.id, f"idempotency_key = 'order-18', request_id = '{request_id}'")
    _fill_references(job)
    for text, index in (
        (str(job.id), "job_pkey"),
        ("order-18", "job_ended_by_key"),
        (request_id, "job_pkey"),
        ("ch_18", "job_step_by_reference"),
    ):
        plans, found = plan(lambda text=text: find_jobs(text))
        assert [found.job.id for found in found] == [job.id]
        assert index in plans.indexes | plans.step_indexes
        assert plans.indexes <= {"job_pkey", "job_ended_by_key"}
        assert plans.step_indexes == {"job_step_by_reference"}


def _fill_references(job):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO job_step (job_id, name, kind, state, downstream_key, reference, attempt, first_started_at,"
            " last_started_at, ended_at, result) SELECT id, 'charge', 'effect', 'done', '', 'ch_of_' || id, 1, created_at,"
            " created_at, created_at, ''::bytea FROM job WHERE id <> %(id)s UNION ALL"
            " SELECT %(id)s, 'charge', 'effect', 'done', '', 'ch_18', 1, now(), now(), now(), ''::bytea",
            {"id": job.id},
        )
        cursor.execute("ANALYZE job_step")


def test_held_jobs_are_released_in_the_order_of_their_ids(full):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE job SET held = TRUE WHERE state = 'queued'")
        cursor.execute("ANALYZE job")
    Pause.objects.create(by="user ada", note="a test", resumed_at=NOW)
    known = ["payments.charge@1", "test.scripted@1"]
    plans, progress = plan(lambda: release_resumed_jobs(limit=100, known_operations=known))
    assert progress.released == 100
    assert progress.last is not None
    assert "job_held" in plans.indexes
    assert plans.indexes <= {"job_held", "job_pkey", *CONCURRENCY_QUEUE}


def test_attempts_under_a_pause_are_counted_among_the_running(full):
    Pause.objects.create(by="user ada", note="a test", operation="test.scripted")
    plans, ((_, running),) = plan(list_pauses)
    assert running > 0
    assert plans.indexes == {"job_running"}


def test_the_attention_list_is_read_from_partial_indexes(full):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE job SET error_code = 'partially-done' WHERE state = 'failed' AND mod(accept_seq, 50) = 3"
        )
        cursor.execute("ANALYZE job")
    plans, found = plan(lambda: needs_attention(since=NOW - timedelta(days=3)))
    assert found.failed
    assert found.partially_done
    indexes = {"job_in_trouble", "job_partially_done", "job_failed", "job_running", "job_claim", "job_held"}
    assert indexes <= plans.indexes <= {*indexes, "job_pkey"}


def test_errors_are_grouped_from_the_failed_jobs_alone(full):
    plans, found = plan(lambda: group_errors(since=NOW - timedelta(days=3)))
    assert found.groups[0].count > 10
    assert plans.indexes == {"job_failed", "job_in_trouble"}


@pytest.mark.parametrize(("state", "index"), [(State.RUNNING, "job_running"), (State.UNKNOWN, "job_in_trouble")])
def test_jobs_that_have_not_ended_are_counted_by_the_index_of_their_state(full, state, index):
    plans, counts = plan(lambda: count_by_operation(state, at_most=10))
    assert plans.indexes == {index}
    assert sum(counts.values()) <= 10
    assert not re.search(r"Limit.*\n +-> +Sort", plans.texts[-1]), plans.texts[-1]


def test_the_oldest_due_job_of_each_queue_is_an_entry_of_an_index(backlog):
    plans, due = plan(lambda: due_jobs(at_most=10))
    assert plans.indexes == {"job_claim"}
    assert {one.queue: one.count for one in due}["backlog"] == 10
    assert "Sort" not in plans.texts[-1], plans.texts[-1]


def test_metrics_read_only_the_index_entries_that_they_count(backlog):
    """20,000 jobs are waiting; the entries read are those that are counted, plus one per queue."""
    assert rows_read(analyzed(_DUE, at_most=10)) <= 10 * len(due_jobs(at_most=1)) + 5
    assert rows_read(analyzed(_COUNT_BY_STATE[State.QUEUED], at_most=10)) == 10


def test_a_preview_reads_only_the_jobs_of_its_state(full):
    """Each of these indexes contains no other jobs, or begins with the state."""
    for wanted, indexes in (
        (JobFilter(state=State.FAILED, error_cause="no"), {"job_in_trouble", "job_failed"}),
        (JobFilter(state=State.QUEUED, operation="test.scripted"), {"job_claim", "job_held"}),
        (JobFilter(state=State.RUNNING), {"job_running"}),
        (JobFilter(state=State.SUCCEEDED, tenant_id=full.id, mode="test"), {"job_list"}),
    ):
        plans, _ = plan(lambda wanted=wanted: preview(wanted))
        assert plans.indexes
        assert plans.indexes <= indexes, plans.texts


def test_a_batch_of_a_bulk_action_reads_a_range_of_ids(full):
    made = start_bulk_action(
        action=BulkAction.Action.REDRIVE, job_filter=JobFilter(state=State.FAILED), actor="user ada", note="a test"
    )
    plans, counts = plan(lambda: next(steps()))
    assert counts.changed == 100
    assert "job_pkey" in plans.indexes
    assert BulkAction.objects.get(pk=made.id).changed == 100


def test_the_self_audit_reads_recent_jobs_from_two_indexes(full):
    since = time_ago(HOUR)
    plans, accepted = plan(lambda: accepted_since(since, before=LAST_ID, limit=500))
    assert (0 < len(accepted) <= 500, plans.indexes) == (True, {"job_pkey"})
    plans, ended = plan(lambda: ended_since(time_ago(20 * HOUR * 24), before=(NOW, LAST_ID), limit=500))
    assert (len(ended), plans.indexes) == (500, {"job_ended"})
    assert "Sort" not in plans.texts[-1], plans.texts[-1]
    plans, overdue = plan(lambda: overdue_jobs(age=10 * HOUR * 24, limit=500))
    assert (len(overdue), plans.indexes) == (500, {"job_ended"})


@pytest.mark.parametrize("rule", JOB_RULES, ids=[rule for _, rule in JOB_RULES])
def test_each_rule_of_the_self_audit_is_checked_by_keys(full, rule):
    _fill_the_history(full)
    ids = list(Job.objects.order_by("-id").values_list("id", flat=True)[:500])
    plans, _ = plan(lambda: broken_jobs(rule, ids, result_max_bytes=1))
    assert plans.indexes <= {"job_pkey", "job_ended_by_key"}
    assert "Seq Scan" not in plans.texts[-1], plans.texts[-1]


def test_the_owners_of_jobs_are_found_by_id(full):
    ids = list(Job.objects.values_list("id", flat=True)[:500])
    plans, owners = plan(lambda: owners_of(ids))
    assert (len(owners), plans.indexes) == (500, {"job_pkey"})
