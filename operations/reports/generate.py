"""reports.generate: write the tenant's jobs and charges of a period into a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

from rest_framework import serializers

from jobs.fields import StrictDateField
from jobs.operations import Operation, PermanentError
from operations.reports.csv_file import open_csv
from operations.reports.period import Period
from operations.reports.rows import CHARGE_OPERATION, Totals, rows_of

if TYPE_CHECKING:
    from jobs.operations import JobHandle
    from operations.reports.rows import Row

# A leap year: enough for a yearly report, and the most that a chart of days can show.
DAYS_MAX = 366
# reportlab keeps its pages in memory until the end; 50,000 rows are 1,100 pages, more than anyone reads.
PDF_ROWS_MAX = 50_000


class ReportFile(Protocol):
    """A report that is being written."""

    def add(self, rows: Sequence[Row]) -> None:
        """Append the rows."""

    def finish(self, totals: Totals) -> None:
        """Write the totals and complete the file."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format. `open` is called with the file to write to, and the period."""

    open: Callable[[IO[bytes], Period], AbstractContextManager[ReportFile]]
    content_type: str
    rows_max: int | None = None


def _open_xlsx(file: IO[bytes], period: Period) -> AbstractContextManager[ReportFile]:
    from operations.reports.xlsx_file import open_xlsx  # noqa: PLC0415 - as for PDF

    return open_xlsx(file, period)


def _open_pdf(file: IO[bytes], period: Period) -> AbstractContextManager[ReportFile]:
    from operations.reports.pdf_file import open_pdf  # noqa: PLC0415 - 7 MB in each process, and only a few write such files

    return open_pdf(file, period)


FORMATS = {
    "csv": Format(open=open_csv, content_type="text/csv; charset=utf-8"),
    "xlsx": Format(open=_open_xlsx, content_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    "pdf": Format(open=_open_pdf, content_type="application/pdf", rows_max=PDF_ROWS_MAX),
}


class ReportParams(serializers.Serializer[dict[str, Any]]):
    """Which days, in which format."""

    format = serializers.ChoiceField(choices=sorted(FORMATS))
    to = StrictDateField(help_text=f"The last day, included; a period has at most {DAYS_MAX} days.")

    def get_fields(self) -> dict[str, Any]:
        """Add `from`, which cannot be an attribute: it is a Python keyword."""
        first = StrictDateField(help_text="The first day (UTC), such as 2030-01-31.")
        return {"from": first, **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        days = (attrs["to"] - attrs["from"]).days + 1
        if days < 1:
            raise serializers.ValidationError({"to": "The last day must not be before the first."})
        if days > DAYS_MAX:
            raise serializers.ValidationError({"to": f"The period must have at most {DAYS_MAX} days, not {days}."})
        return attrs


class ReportTotal(serializers.Serializer[dict[str, Any]]):
    """The sum of the report's charges in one currency, in major units."""

    currency = serializers.CharField()
    charged = serializers.CharField()
    refunded = serializers.CharField()


class ReportResult(serializers.Serializer[dict[str, Any]]):
    """The report's name among the job's artifacts, and its totals."""

    artifact = serializers.CharField()
    rows = serializers.IntegerField(help_text="The number of jobs.")
    totals = ReportTotal(many=True)


class GenerateReport(Operation):
    """Report the jobs that were created in a period, before the report itself, and their charges."""

    name = "reports.generate"
    params = ReportParams
    result = ReportResult
    timeout_seconds = 1_800

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """Write the file and return its number of rows and its totals.

        If the worker dies while writing, nothing is kept, and the next attempt writes the file again. The totals are recorded
        under the file's digest before it is published, so that an attempt that finds the file finds its totals and no others.
        """
        kind = FORMATS[params["format"]]
        days = Period(params["from"], params["to"])
        counts = job.step("count", lambda: _jobs_per_day(days, job))
        if kind.rows_max is not None and sum(counts) > kind.rows_max:
            raise PermanentError(
                f"{params['format']} holds at most {kind.rows_max} jobs, not {sum(counts)}: use csv or xlsx.",
                code="report-too-large",
            )
        period = Period(days.first, days.last, tuple(counts))
        content: dict[str, Any] = {}

        def write(file: IO[bytes]) -> None:
            totals = _write_report(file, kind, period, job)
            content.update(rows=totals.rows, totals=totals.by_currency())
            job.step(_content_of(_digest(file)), lambda: content)

        artifact = job.artifact(
            f"report.{params['format']}",
            write,
            content_type=kind.content_type,
            filename=f"jobs-{params['from']}-{params['to']}.{params['format']}",
        )
        # Empty if an earlier attempt wrote the file; its content was recorded before the file was published.
        content = content or job.step(_content_of(artifact.sha256), dict)
        return {"artifact": artifact.name, **content}


def _jobs_per_day(days: Period, job: JobHandle) -> list[int]:
    """Count each day in a statement of its own, so that none of them takes long."""
    counts = []
    for day in days.days():
        job.check()
        counts.append(job.count_jobs(day.starts_at, day.ends_at))
    return counts


def _write_report(file: IO[bytes], kind: Format, period: Period, job: JobHandle) -> Totals:
    """Write the report and return the totals of exactly the rows that are in it."""
    totals, expected = Totals(), sum(period.jobs_per_day)
    with kind.open(file, period) as report:
        for jobs in job.jobs_between(period.starts_at, period.ends_at, results_of=CHARGE_OPERATION):
            report.add(rows_of(jobs, scope=job.scope, totals=totals))
            job.check()
            # The purge may have deleted some that were counted.
            job.progress(totals.rows, max(expected, totals.rows + 1), "rows")
        report.finish(totals)
    job.progress(totals.rows, totals.rows, "rows")
    return totals


def _digest(file: IO[bytes]) -> str:
    file.flush()
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # typeshed asks for a raw file


def _content_of(sha256: str) -> str:
    return f"content {sha256}"
