"""Read a job for its document: one statement, and one round trip more for what its attempts produced. Nothing is locked."""

import json
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS
from django.db.models import JSONField

from foundation.statements import Row, Statement, read_one, run_together
from jobs.models import Job

_EFFECTS = """
    SELECT job_id, name, state, downstream_key FROM job_step
    WHERE job_id = ANY(%(job_ids)s) AND kind = 'effect' ORDER BY first_started_at"""

# An expired artifact is gone for every reader, even before the purge has removed it.
_ARTIFACTS = """
    SELECT job_id, name, content_type, size FROM job_artifact
    WHERE job_id = ANY(%(job_ids)s) AND (expires_at IS NULL OR expires_at > (SELECT clock_timestamp()))
    ORDER BY created_at, name"""


class EffectSummary(NamedTuple):
    """What clients see of an effect. Fields in the order of the query's columns."""

    job_id: UUID
    name: str
    state: str
    downstream_key: str


class ArtifactSummary(NamedTuple):
    """What clients see of an artifact. Fields in the order of the query's columns."""

    job_id: UUID
    name: str
    content_type: str
    size: int  # bytes


class _JobColumns(NamedTuple):
    names: tuple[str, ...]
    json: tuple[int, ...]  # the places of those that the driver returns as JSON text


def read_job(*, tenant_id: int, mode: str, job_id: UUID) -> Job | None:
    """Return the tenant's job, if there is one. One row by job_pkey. The ORM takes four times as long for the same."""
    row = read_one(_statement(), job_id, tenant_id, mode)
    return None if row is None else job_of(row)


def job_of(row: Row) -> Job:
    """Return the job of a row that begins with `job_columns`. Ten times cheaper than `Job.objects.raw`."""
    columns = _columns()
    values = list(row[: len(columns.names)])
    for place in columns.json:
        if values[place] is not None:
            values[place] = json.loads(values[place])
    return Job.from_db(DEFAULT_DB_ALIAS, columns.names, values)


@cache
def job_columns(relation: str = "job") -> str:
    """Return the columns of a job, for a SELECT from the table or from a relation of its rows."""
    return ", ".join(f"{relation}.{field.column}" for field in Job._meta.concrete_fields)  # noqa: SLF001 - Django's public name


def read_outputs(job_ids: Sequence[UUID]) -> tuple[list[EffectSummary], list[ArtifactSummary]]:
    """Return the effects and the artifacts of the jobs, each in the order of creation. Two statements in one round trip.

    Served by job_step_pkey and job_artifact_pkey.
    """
    values = {"job_ids": list(job_ids)}
    effects, artifacts = run_together(Statement(_EFFECTS, values), Statement(_ARTIFACTS, values))
    return [EffectSummary(*row) for row in effects], [ArtifactSummary(*row) for row in artifacts]


@cache
def _columns() -> _JobColumns:
    fields = Job._meta.concrete_fields  # noqa: SLF001 - Django's public name
    json_places = (place for place, field in enumerate(fields) if isinstance(field, JSONField))
    return _JobColumns(tuple(field.attname for field in fields), tuple(json_places))


@cache
def _statement() -> str:
    return f"SELECT {job_columns()} FROM job WHERE id = %s AND tenant_id = %s AND mode = %s"
