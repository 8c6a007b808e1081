"""Whether the work gets done: what is due, whose lease is over, who waits for a person, which keys can still be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings

from idempotency.fingerprint import parse_keyring
from observability.doctor.finding import Finding, graded, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observability.doctor.database import Asked

# Each reads the queued or the running jobs alone; with a backlog of millions it runs into the session's time-out.
_OLDEST_DUE = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - run_at)), 0)::float8 FROM job
    WHERE state = 'queued' AND run_at <= (SELECT clock_timestamp())"""
# What a sweep leaves behind tells when the last one was: nothing that has been due for publication, or over, for longer.
_SWEEP_LAG = """
    SELECT greatest(
        (SELECT max(extract(epoch FROM clock_timestamp() - lease_expires_at)) FROM job
         WHERE state = 'running' AND lease_expires_at <= (SELECT clock_timestamp())),
        (SELECT max(extract(epoch FROM clock_timestamp() - deadline_at)) FROM job
         WHERE state = 'queued' AND deadline_at <= (SELECT clock_timestamp()) AND open_effects = 0 AND done_effects = 0),
        0)::float8"""
_UNKNOWN = "SELECT count(*) FROM (SELECT FROM job WHERE state = 'unknown' LIMIT 1000) AS unknown"
_KIDS = "SELECT DISTINCT fingerprint_kid FROM idempotency_record WHERE NOT fingerprint_kid = ANY(%s) LIMIT 5"


def look_at_work(asked: Asked) -> Iterator[Finding]:
    """Queue lag, sweeps, people's work, fingerprints."""
    oldest = float(asked.value(_OLDEST_DUE))
    yield graded(
        "work.oldest_due",
        oldest,
        f"The oldest due job has waited {oldest:.0f} s." if oldest else "No due job waits.",
        warn_at=60.0,
        fail_at=600.0,
        means="Jobs start late: too few workers, none at all, or a line (concurrency_key) that stands.",
        do="python -m observability.liveness worker; then more workers. Look at the queues above.",
    )
    lag = float(asked.value(_SWEEP_LAG))
    yield graded(
        "work.sweep",
        lag,
        f"A lease or deadline has been over for {lag:.0f} s." if lag else "Nothing waits for a sweep.",
        warn_at=settings.SWEEP_SECONDS * 6,
        fail_at=settings.SWEEP_SECONDS * 60,
        means="No sweep has come by since then: jobs of dead workers are not taken up again.",
        do="python -m observability.liveness beat; observability.liveness maintenance; once, by hand: python manage.py sweep.",
    )
    unknown = int(asked.value(_UNKNOWN))
    if unknown:
        yield warning(
            "work.unknown",
            f"{unknown} jobs are in `unknown`.",
            means="Something may or may not have been done to the world; only a person can find out.",
            do="Look at each in the admin, ask the downstream, and resolve it.",
        )
    yield _fingerprints(asked)


def _fingerprints(asked: Asked) -> Finding:
    kids = list(parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS)))
    lost = [kid for (kid,) in asked.rows(_KIDS, kids)]
    if lost:
        return warning(
            "work.fingerprint_keys",
            f"Records were made under kids that are no longer configured: {', '.join(lost)}.",
            means="A retry under such a key can be told neither same nor different: it is refused until the record expires.",
            do="Put the old kid:secret back at the end of IDEMPOTENCY_FINGERPRINT_KEYS until those records are purged.",
        )
    return ok("work.fingerprint_keys", "Every record's fingerprint key is configured.")
