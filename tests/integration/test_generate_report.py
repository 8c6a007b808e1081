"""reports.generate: a tenant's jobs and charges of a period in one complete file, wherever the worker dies."""

from __future__ import annotations

import base64
import csv
import io
import re
import zipfile
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework import serializers

from accounts.scopes import format_scope
from jobs.models import Job, JobArtifact, JobStep
from jobs.payloads import encode_payload
from jobs.registry import current_operation
from jobs.services import cancel_job
from jobs.states import State
from jobs.submission import Submission, submit_job
from operations.payments.models import Charge
from operations.reports import generate
from operations.reports.rows import HEADINGS
from tests.support.factories import TenantFactory, claim, queued_job
from tests.support.files import stored
from tests.support.scenarios import write
from workers import job_handle
from workers.executor import execute_job
from workers.testing import every_crash, run_operation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("folder")]

FORMATS = ("csv", "xlsx", "pdf")
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(job_handle, "_HISTORY_BATCH", 2)


def around(kind="csv", days=1):
    """Return params of a report on the days around now."""
    today = datetime.now(UTC).date()
    return {"format": kind, "from": str(today - days * DAY), "to": str(today + days * DAY)}


def report(tenant, params=None, **options):
    return run_operation("reports.generate", params or around(), tenant_id=tenant.id, **options)


def charged_job(tenant, amount=1999, currency="usd", charge_id="ch_1", refunded=None):
    """Create a job that has charged, with a refund if there is one."""
    job = claim(queued_job(tenant).id)
    result = {"charge_id": charge_id, "amount": amount, "currency": currency, "status": "succeeded"}
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE job SET state = 'succeeded', operation = 'payments.charge', result = %s, finished_at = now(),"
            " lease_expires_at = NULL, worker = NULL WHERE id = %s",
            [encode_payload(result), job.id],
        )
    if refunded is not None:
        Charge.objects.create(
            job_id=job.id,
            scope=format_scope(tenant_id=tenant.id, mode="test"),
            charge_id=charge_id,
            currency=currency,
            captured=amount,
            refunded=refunded,
        )
    return Job.objects.get(pk=job.id)


def file_of(finished, folder):
    """Return the content of the job's only artifact."""
    artifact = JobArtifact.objects.get(job_id=finished.job.id)
    content = (folder / artifact.storage_name).read_bytes()
    assert artifact.name == finished.result["artifact"]
    assert artifact.size == len(content)
    return content


def table_of(content):
    """Return the rows of a CSV by their headings."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def sheets_of(content):
    """Return the rows of each sheet of a workbook, with cells as text or Decimal."""
    with zipfile.ZipFile(io.BytesIO(content)) as workbook:
        names = sorted(name for name in workbook.namelist() if name.startswith("xl/worksheets/sheet"))
        texts = [workbook.read(name) for name in names]
    assert not any(b"<f>" in text for text in texts), "a formula"
    return [_lines_of(ET.fromstring(text)) for text in texts]  # noqa: S314 - our own


def _lines_of(sheet):
    space = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    lines = []
    for line in sheet.iterfind(".//m:row", space):
        cells = [
            cell.findtext("m:is/m:t", namespaces=space)
            if cell.get("t") == "inlineStr"
            else Decimal(cell.findtext("m:v", namespaces=space))
            for cell in line.iterfind("m:c", space)
        ]
        lines.append(cells)
    return lines


def texts_of(content):
    """Return the text that is drawn on each page of a PDF."""
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    streams = re.findall(rb"stream\r?\n(.*?)~>\s*endstream", content, re.DOTALL)
    pages = [zlib.decompress(base64.a85decode(one.strip())).decode("latin-1") for one in streams]
    assert len(pages) == len(re.findall(rb"/Type /Page\b", content))
    return pages


# --- Contents ----------------------------------------------------------------------------------------------------------


def test_a_csv_has_a_row_for_each_job_and_what_it_charged(tenant, folder):
    waiting = queued_job(tenant)
    charge = charged_job(tenant, refunded=500)
    yen = charged_job(tenant, 700, "jpy", "ch_2")
    made = report(tenant)
    rows = table_of(file_of(made, folder))
    assert [row["job"] for row in rows] == [str(job.id) for job in (waiting, charge, yen)]
    assert rows[0] | {"created_at": ""} == {
        "job": str(waiting.id),
        "operation": "test.scripted",
        "state": "queued",
        "created_at": "",
        "finished_at": "",
        "attempts": "0",
        "charge": "",
        "amount": "",
        "currency": "",
        "refunded": "",
    }
    money = [(row["charge"], row["amount"], row["currency"], row["refunded"]) for row in rows[1:]]
    assert money == [("ch_1", "19.99", "usd", "5.00"), ("ch_2", "700", "jpy", "0")]
    assert datetime.fromisoformat(rows[1]["created_at"]) == charge.created_at.replace(
        microsecond=charge.created_at.microsecond // 1000 * 1000
    )
    assert rows[1]["finished_at"]
    assert rows[1]["attempts"] == "1"
    assert made.result == {
        "artifact": "report.csv",
        "rows": 3,
        "totals": [
            {"currency": "jpy", "charged": "700", "refunded": "0"},
            {"currency": "usd", "charged": "19.99", "refunded": "5.00"},
        ],
    }


def test_a_workbook_has_the_same_rows_numbers_as_numbers_and_the_totals(tenant, folder):
    jobs = [queued_job(tenant), charged_job(tenant, refunded=500), charged_job(tenant, 10**16, "usd", "ch_2")]
    made = report(tenant, around("xlsx"))
    [rows, totals] = sheets_of(file_of(made, folder))
    assert rows[0] == list(HEADINGS)
    assert [row[0] for row in rows[1:]] == [str(job.id) for job in jobs]
    assert rows[2][-4:] == ["ch_1", Decimal("19.99"), "usd", Decimal(5)]
    assert rows[3][-3] == "100000000000000.00", "more digits than Excel keeps"
    assert totals[1] == [Decimal(3)]
    assert totals[3] == ["usd", "100000000000019.99", Decimal(5)]


def test_a_workbook_starts_another_sheet_when_one_is_full(tenant, folder, monkeypatch):
    monkeypatch.setattr("operations.reports.xlsx_file._ROWS_MAX", 3)
    jobs = [str(queued_job(tenant).id) for _ in range(5)]
    *sheets, _totals = sheets_of(file_of(report(tenant, around("xlsx")), folder))
    assert [[row[0] for row in rows[1:]] for rows in sheets] == [jobs[:2], jobs[2:4], jobs[4:]]


def test_a_pdf_has_pages_with_the_rows_a_chart_and_the_totals(tenant, folder):
    jobs = [queued_job(tenant) for _ in range(70)] + [charged_job(tenant, charge_id="ch_é漢(")]
    pages = texts_of(file_of(report(tenant, around("pdf")), folder))
    assert len(pages) == 3
    drawn = "".join(pages)
    assert [str(job.id) in drawn for job in jobs] == [True] * len(jobs)
    assert "Jobs: 71" in pages[-1]
    assert "Charged in usd: 19.99, of it refunded: 0.00" in pages[-1]
    assert around()["from"] in pages[0], "a day of the chart"
    assert "page 3" in pages[-1]


def test_a_pdf_with_too_many_rows_is_refused(tenant, folder, monkeypatch):
    few = replace(generate.FORMATS["pdf"], rows_max=2)
    monkeypatch.setitem(generate.FORMATS, "pdf", few)
    for _ in range(3):
        queued_job(tenant)
    made = report(tenant, around("pdf"))
    assert (made.job.state, made.error["cause"], stored(folder)) == (State.FAILED, "report-too-large", [])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_period_without_jobs_makes_a_file_without_rows(tenant, folder, kind):
    queued_job(tenant)
    made = report(tenant, {"format": kind, "from": "2020-02-01", "to": "2020-02-29"})
    assert made.result == {"artifact": f"report.{kind}", "rows": 0, "totals": []}
    content = file_of(made, folder)
    if kind == "csv":
        assert content == b"job,operation,state,created_at,finished_at,attempts,charge,amount,currency,refunded\r\n"


def test_the_first_and_the_last_day_are_included_and_their_neighbours_are_not(tenant, folder):
    instants = (
        "2026-02-28T23:59:59.999Z",
        "2026-03-01T00:00:00.000Z",
        "2026-03-02T23:59:59.999Z",
        "2026-03-03T00:00:00.000Z",
    )
    jobs = [created_at(queued_job(tenant), datetime.fromisoformat(instant)) for instant in instants]
    made = report(tenant, {"format": "csv", "from": "2026-03-01", "to": "2026-03-02"})
    assert [row["job"] for row in table_of(file_of(made, folder))] == jobs[1:3]


def created_at(job, instant):
    """Return the id that the job would have if it had been created then."""
    milliseconds = int(instant.timestamp() * 1000)
    older = f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}{str(job.id)[13:]}"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE job SET id = %s, created_at = %s WHERE id = %s", [older, instant, job.id])
    return older


def test_the_report_itself_and_later_jobs_are_not_included(tenant, folder):
    earlier = queued_job(tenant)
    submission = Submission(operation=current_operation("reports.generate"), params=around())
    submitted = submit_job(tenant_id=tenant.id, mode="test", submission=submission)
    queued_job(tenant)
    assert execute_job(submitted.id).state == State.SUCCEEDED
    [content] = stored(folder)
    assert [row["job"] for row in table_of(content)] == [str(earlier.id)]


def test_jobs_of_other_tenants_and_modes_are_not_included(tenant, folder):
    mine = charged_job(tenant)
    charged_job(TenantFactory(), charge_id="ch_not_mine", refunded=1)
    queued_job(tenant, mode="live")
    made = report(tenant)
    content = file_of(made, folder)
    assert [row["job"] for row in table_of(content)] == [str(mine.id)]
    assert b"ch_not_mine" not in content
    assert made.result["rows"] == Job.objects.filter(tenant=tenant, mode="test").count() - 1


def test_another_scopes_ledger_entry_for_the_same_job_is_ignored(tenant, folder):
    mine = charged_job(tenant)
    Charge.objects.create(job_id=mine.id, scope="another", charge_id="ch_x", currency="usd", captured=1999, refunded=1)
    [row] = table_of(file_of(report(tenant), folder))
    assert (row["charge"], row["refunded"]) == ("ch_1", "0.00")


def test_an_erased_charge_is_read_from_the_ledger(tenant, folder):
    booked, unbooked = charged_job(tenant, refunded=0), charged_job(tenant, charge_id="ch_2")
    for job in (booked, unbooked):
        write(job.id, "result = '\\x016e756c6c'", "erased_at = now()")
    rows = table_of(file_of(report(tenant), folder))
    assert [(row["charge"], row["amount"]) for row in rows] == [("ch_1", "19.99"), ("", "")]


@pytest.mark.parametrize("result", [None, "done", {"amount": 1}, {"charge_id": 1, "amount": "x", "currency": []}])
def test_a_charge_with_an_operators_own_result_is_a_row_without_amount(tenant, folder, result):
    job = charged_job(tenant)
    Job.objects.filter(pk=job.id).update(result=encode_payload(result))
    [row] = table_of(file_of(report(tenant), folder))
    assert (row["job"], row["charge"], row["amount"]) == (str(job.id), "", "")


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK(1)", "\uff1d1+1"])
def test_no_cell_is_a_formula(tenant, folder, evil):
    charged_job(tenant, charge_id=evil)
    [row] = table_of(file_of(report(tenant), folder))
    assert row["charge"] == f"'{evil}"


@pytest.mark.parametrize("evil", ["=1+1", "-1", "http://example.com/"])
def test_no_cell_of_a_workbook_is_a_formula_or_a_link(tenant, folder, evil):
    charged_job(tenant, charge_id=evil)
    content = file_of(report(tenant, around("xlsx")), folder)
    [rows, _] = sheets_of(content)
    assert rows[1][6].lstrip("'") == evil
    assert rows[1][6].startswith(("'", "http"))
    assert b"hyperlink" not in zipfile.ZipFile(io.BytesIO(content)).read("xl/worksheets/sheet1.xml")


def test_a_charge_id_with_line_breaks_and_quotes_stays_in_its_cell(tenant, folder):
    charged_job(tenant, charge_id='a",\n"b\t\x07')
    [row] = table_of(file_of(report(tenant), folder))
    assert row["charge"] == 'a",\ufffd"b\ufffd\ufffd'


# --- Once, complete or not at all --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_there_is_one_complete_report_wherever_its_worker_dies(tenant, folder, kind):
    for _ in range(3):
        charged_job(tenant)
    right = report(tenant, around(kind)).result
    crashes = list(every_crash(lambda: report(TenantFactory(), around(kind))))
    assert {"mid_step", "after_record", "before_artifact", "before_settle"} <= {one.place for one in crashes}
    for crash in crashes:
        other = TenantFactory()
        for _ in range(3):
            charged_job(other)
        made = report(other, around(kind), crash=crash)
        assert made.has_crashed, crash
        assert (made.job.state, made.result) == (State.SUCCEEDED, right), crash
        [artifact] = JobArtifact.objects.filter(job_id=made.job.id)
        content = (folder / artifact.storage_name).read_bytes()
        assert artifact.size == len(content)
        if kind == "csv":
            assert len(table_of(content)) == 3, crash


def test_the_totals_are_those_of_the_file_even_if_a_job_is_purged_between_two_attempts(tenant, folder, monkeypatch):
    gone = charged_job(tenant)
    charged_job(tenant, 1, charge_id="ch_2")
    monkeypatch.setattr("workers.artifacts.reach", lambda place: purge_and_die(place, gone))
    made = report(tenant)
    assert made.job.attempt == 2
    assert made.result["rows"] == len(table_of(file_of(made, folder))) == 1
    assert made.result["totals"] == [{"currency": "usd", "charged": "0.01", "refunded": "0.00"}]
    assert JobStep.objects.filter(job_id=made.job.id, name__startswith="content ").count() == 2


def purge_and_die(place, job):
    """Fail after the file was stored and before it was recorded, and purge a job before the next attempt."""
    if place == "before_artifact" and Job.objects.filter(pk=job.id).delete()[0]:
        raise RuntimeError("died")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_report_that_is_canceled_while_it_is_written_leaves_no_artifact(tenant, folder, kind, monkeypatch):
    for _ in range(5):
        queued_job(tenant)
    seen = []

    def cancel_while_reading(jobs, **options):
        rows = rows_of(jobs, **options)
        seen.extend(rows)
        job = Job.objects.get(operation="reports.generate")
        cancel_job(tenant_id=tenant.id, mode="test", job_id=job.id)
        return rows

    rows_of = generate.rows_of
    monkeypatch.setattr(generate, "rows_of", cancel_while_reading)
    # A cancel request is seen at the next write of progress.
    monkeypatch.setattr("workers.job_handle._PROGRESS_SECONDS", 0)
    made = report(tenant, around(kind))
    assert (made.job.state, len(seen)) == (State.CANCELED, 2)
    assert not JobArtifact.objects.exists()
    assert stored(folder) == []


def test_progress_counts_the_rows(tenant, folder, monkeypatch):
    monkeypatch.setattr("workers.job_handle._PROGRESS_SECONDS", 0)
    written = []
    for _ in range(5):
        queued_job(tenant)
    original = job_handle.write_progress

    def write_progress(*, progress, **fence):
        written.append(progress)
        return original(progress=progress, **fence)

    monkeypatch.setattr(job_handle, "write_progress", write_progress)
    report(tenant)
    done = [re.search(r'"done": (\d+), "total": (\d+)', one).groups() for one in written]
    assert done == [("2", "5"), ("4", "5"), ("5", "6"), ("5", "5")]


# --- Refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "member"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "to"),
        ({"from": "2024-01-01", "to": "2025-01-01"}, "to"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "20260301"}, "from"),
        ({"from": "2026-03-01T00:00:00Z"}, "from"),
        ({"to": 20260301}, "to"),
        ({"to": None}, "to"),
        ({"format": "docx"}, "format"),
    ],
)
def test_an_invalid_period_is_refused(changed, member):
    form = generate.ReportParams(data={"format": "csv", "from": "2026-03-01", "to": "2026-03-02", **changed})
    with pytest.raises(serializers.ValidationError) as refused:
        form.is_valid(raise_exception=True)
    assert list(refused.value.detail) == [member]


def test_a_refusal_over_http_points_to_the_day(api):
    body = {"operation": "reports.generate", "params": {"format": "csv", "from": "2026-03-02", "to": "2026-03-01"}}
    answer = api.post("/v1/jobs", body, format="json", HTTP_IDEMPOTENCY_KEY="report-1")
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/params/to"]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("first", "last"), [("2024-01-01", "2024-12-31"), ("9999-12-31", "9999-12-31"), ("0001-01-01", "0001-01-01")]
)
def test_a_leap_year_and_the_ends_of_the_calendar_are_accepted(tenant, folder, first, last):
    made = report(tenant, {"format": "csv", "from": first, "to": last})
    assert (made.job.state, made.result["rows"]) == (State.SUCCEEDED, 0)


# --- Queries -----------------------------------------------------------------------------------------------------------


def test_jobs_are_read_in_batches_and_none_is_read_twice(tenant, folder):
    for _ in range(5):
        queued_job(tenant)
    with CaptureQueriesContext(connection) as captured:
        report(tenant)
    reads = [one["sql"] for one in captured if "job.created_at >=" in one["sql"] and "AS page JOIN job" in one["sql"]]
    assert len(reads) == 4, "three batches, and the end"
