"""reports.generate: the tenant's jobs and charges of a period, as a file."""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING, Any

from rest_framework import serializers

from jobs.fields import StrictDateField
from jobs.operations import Operation, PermanentError
from operations.reports.formats import FORMATS
from operations.reports.period import Period
from operations.reports.rows import CHARGES, Figures, rows_of

if TYPE_CHECKING:
    from jobs.operations import JobHandle
    from operations.reports.formats import Format

# A leap year: what a year's end asks for, and the last that a chart of days can show.
DAYS_MAX = 366


class ReportParams(serializers.Serializer[dict[str, Any]]):
    """Which days, and what kind of file."""

    format = serializers.ChoiceField(choices=sorted(FORMATS))
    to = StrictDateField(help_text=f"The last day, included; the period has {DAYS_MAX} days at most.")

    def get_fields(self) -> dict[str, Any]:
        """`from` is a word of Python's: no attribute can be called so."""
        first = StrictDateField(help_text="The first day (UTC), such as 2030-01-31.")
        return {"from": first, **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The days are in order, and not too many."""
        days = (attrs["to"] - attrs["from"]).days + 1
        if days < 1:
            raise serializers.ValidationError({"to": "The last day must not be before the first."})
        if days > DAYS_MAX:
            raise serializers.ValidationError(
                {"to": f"The period must have {DAYS_MAX} days at most, not {days}."}
            )
        return attrs


class ReportTotal(serializers.Serializer[dict[str, Any]]):
    """What the report's charges come to in one currency, as people write it."""

    currency = serializers.CharField()
    charged = serializers.CharField()
    refunded = serializers.CharField()


class ReportResult(serializers.Serializer[dict[str, Any]]):
    """The report's name among the job's artifacts, and what is in it."""

    artifact = serializers.CharField()
    rows = serializers.IntegerField(help_text="Jobs.")
    totals = ReportTotal(many=True)


class GenerateReport(Operation):
    """Write a report of the jobs that were created in a period, before the report was asked for, and of their charges."""

    name = "reports.generate"
    params = ReportParams
    result = ReportResult
    timeout_seconds = 1_800

    def perform(self, params: dict[str, Any], job: JobHandle) -> dict[str, Any]:
        """The file is there; the result says how many rows it has and what they come to.

        A worker that dies in mid-file leaves nothing, and the next attempt writes it again. What a file comes to is remembered
        under the file's digest before it is published: who finds the file, finds what belongs to it and to no other.
        """
        kind = FORMATS[params["format"]]
        days = Period(params["from"], params["to"])
        counts = job.step("count", lambda: _jobs_per_day(days, job))
        if kind.rows_max is not None and sum(counts) > kind.rows_max:
            raise PermanentError(
                f"{params['format']} holds {kind.rows_max} jobs at most, not {sum(counts)}: take csv or xlsx.",
                code="report-too-large",
            )
        period = Period(days.first, days.last, tuple(counts))
        content: dict[str, Any] = {}

        def write(file: IO[bytes]) -> None:
            figures = _write_report(file, kind, period, job)
            content.update(rows=figures.rows, totals=figures.totals())
            job.step(_content_of(_digest(file)), lambda: content)

        artifact = job.artifact(
            f"report.{params['format']}",
            write,
            content_type=kind.content_type,
            filename=f"jobs-{params['from']}-{params['to']}.{params['format']}",
        )
        # An earlier attempt's file: its content is on record, since it was published after that.
        content = content or job.step(_content_of(artifact.sha256), dict)
        return {"artifact": artifact.name, **content}


def _jobs_per_day(days: Period, job: JobHandle) -> list[int]:
    """A statement for each day, so that none of them takes long."""
    counts = []
    for day in days.days():
        job.check()
        counts.append(job.count_jobs(day.starts_at, day.ends_at))
    return counts


def _write_report(file: IO[bytes], kind: Format, period: Period, job: JobHandle) -> Figures:
    """The report is in the file. What it comes to is summed from the very rows that are in it."""
    figures, expected = Figures(), sum(period.jobs_per_day)
    with kind.opened(file, period) as sheet:
        for jobs in job.jobs_between(period.starts_at, period.ends_at, results_of=CHARGES):
            sheet.add(rows_of(jobs, scope=job.scope, figures=figures))
            job.check()
            # The purge may have taken some that were counted.
            job.progress(figures.rows, max(expected, figures.rows + 1), "rows")
        sheet.finish(figures)
    job.progress(figures.rows, figures.rows, "rows")
    return figures


def _digest(file: IO[bytes]) -> str:
    """As an artifact's: of all that is in the file."""
    file.flush()
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # typeshed asks for a raw file


def _content_of(sha256: str) -> str:
    return f"content {sha256}"
