"""Job ids: the text by which other rooms refer to a job ("job/<id>"), and the ids that a time allows (UUIDv7)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

_PREFIX = "job/"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Ids carry the application's clock, created_at the database's: the most by which the two may differ.
_CLOCK_SKEW = timedelta(minutes=5)


def job_resource(job_id: UUID) -> str:
    """Return the job's name in idempotency records, audit entries and findings: "job/<id>"."""
    return f"{_PREFIX}{job_id}"


def parse_job_resource(resource: str | None) -> UUID | None:
    """Return the id in "job/<id>", None for any other resource. Raises ValueError where the id is malformed."""
    if resource is None or not resource.startswith(_PREFIX):
        return None
    return UUID(resource.removeprefix(_PREFIX))


def lowest_id(created_from: datetime) -> UUID:
    """Return an id that no job created from this time on is below; lets an index on ids serve a filter on times."""
    return _first_id_of(created_from, -_CLOCK_SKEW)


def highest_id(created_before: datetime) -> UUID:
    """Return an id that every job created before this time is below."""
    return _first_id_of(created_before, _CLOCK_SKEW)


def _first_id_of(instant: datetime, skew: timedelta) -> UUID:
    """The smallest UUIDv7 of that millisecond (RFC 9562 §5.7), clamped: the instant may be the calendar's last."""
    milliseconds = (instant - _EPOCH + skew) // timedelta(milliseconds=1)
    return UUID(int=min(max(0, milliseconds), 2**48 - 1) << 80)
