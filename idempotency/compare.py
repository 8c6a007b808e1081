"""Whether a record answers a request, and if not, why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idempotency.errors import KeyReused, PayloadErased, RequestInProgress
from idempotency.fingerprint import CURRENT_VERSION, NO_DOCUMENT, compute, is_same
from idempotency.keyring import current_kid
from idempotency.members import differing_members, member_digests
from idempotency.records import Fingerprint

if TYPE_CHECKING:
    from idempotency.fingerprint import RequestParts
    from idempotency.records import Record


def take_fingerprint(parts: RequestParts) -> Fingerprint:
    """Return how the request is to be remembered: under the current version and the newest kid."""
    kid = current_kid()
    return Fingerprint(
        digest=compute(parts, version=CURRENT_VERSION, kid=kid),
        version=CURRENT_VERSION,
        kid=kid,
        members=None if parts.document is NO_DOCUMENT else member_digests(parts.document, kid),
    )


def refuse_if_other(record: Record, parts: RequestParts) -> None:
    """Return if the record answers this request; else raise KeyReused, PayloadErased or RequestInProgress."""
    if not is_same(
        parts, fingerprint=record.fingerprint, version=record.fingerprint_version, kid=record.fingerprint_kid
    ):
        raise _describe_mismatch(record, parts)
    if record.erased_at is not None:
        raise PayloadErased(resource=record.stands_for)
    if record.status is None:
        raise RequestInProgress


def _describe_mismatch(record: Record, parts: RequestParts) -> KeyReused:
    mismatch = _differing_pointers(record, parts)
    # Empty in a record that was taken back after its purge: what the first request was is forgotten.
    kept = [name for name in ("method", "path") if getattr(record, name)]
    differing = [name for name in kept if getattr(record, name) != getattr(parts, name)]
    if mismatch:
        differing.append("body")
    if not differing and record.members is not None:
        differing.append("query")  # all else is known to agree
    return KeyReused(
        mismatch=mismatch, parts=differing, first_request_at=record.created_at, resource=record.stands_for
    )


def _differing_pointers(record: Record, parts: RequestParts) -> list[str]:
    if record.erased_at is not None:
        return []
    if (record.members is None) != (parts.document is NO_DOCUMENT):
        return [""]  # only one of the two bodies is JSON: they differ as a whole
    return differing_members(record.members, parts.document, record.fingerprint_kid)
