"""Job ids.

The text that other packages use to refer to a job ("job/<id>"), and the range of ids for a range of times (UUIDv7).
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

_PREFIX = "job/"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The largest difference between the application's clock (used in ids) and the database's clock (used in created_at).
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
    """Return a lower bound of the ids of all jobs created at or after this time, so that an index on ids can filter by time."""
    return _first_id_of(created_from, -_CLOCK_SKEW)


def highest_id(created_before: datetime) -> UUID:
    """Return an upper bound (exclusive) of the ids of all jobs created before this time."""
    return _first_id_of(created_before, _CLOCK_SKEW)


def ids_within(start: UUID, span: timedelta) -> tuple[UUID, UUID]:
    """Return the bounds (the last exclusive) of the UUIDv7s that were made from the time of `start` until `span` later."""
    first = start.int >> 80
    return UUID(int=first << 80), UUID(int=(first + span // timedelta(milliseconds=1)) % 2**48 << 80)


def _first_id_of(instant: datetime, skew: timedelta) -> UUID:
    """The smallest UUIDv7 of that millisecond (RFC 9562 §5.7), clamped: the instant may be the calendar's last."""
    milliseconds = (instant - _EPOCH + skew) // timedelta(milliseconds=1)
    return UUID(int=min(max(0, milliseconds), 2**48 - 1) << 80)
