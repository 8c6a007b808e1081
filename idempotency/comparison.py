"""Compare a request with the record of its key, and name the body members that differ.

A record keeps a short keyed digest of each member beside the fingerprint. So a refusal can list JSON pointers
(RFC 6901) although the record holds no value of the first request.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final

from foundation import exact_json
from idempotency.errors import KeyReused, PayloadErased, RequestInProgress
from idempotency.fingerprint import CURRENT_VERSION, NO_DOCUMENT, Fingerprint, compute, current_kid, is_same, secret_of

if TYPE_CHECKING:
    from idempotency.fingerprint import RequestParts
    from idempotency.records import Record

MAX_DEPTH: Final = 2
MAX_MEMBERS: Final = 64
# These digests explain a mismatch; they do not decide whether there is one. One changed member in 4 billion is not named.
DIGEST_BYTES: Final = 4

Members = dict[str, Any]  # values by JSON pointer


def fingerprint_request(parts: RequestParts) -> Fingerprint:
    """Return the request's fingerprint under the current version and the newest kid."""
    kid = current_kid()
    return Fingerprint(
        digest=compute(parts, version=CURRENT_VERSION, kid=kid),
        version=CURRENT_VERSION,
        kid=kid,
        members=None if parts.document is NO_DOCUMENT else member_digests(parts.document, kid),
    )


def require_same_request(record: Record, parts: RequestParts) -> None:
    """Raise KeyReused, PayloadErased or RequestInProgress unless the record's response answers this request."""
    version, kid = record.fingerprint_version, record.fingerprint_kid
    if not is_same(parts, fingerprint=record.fingerprint, version=version, kid=kid):
        raise _describe_mismatch(record, parts)
    if record.erased_at is not None:
        raise PayloadErased(resource=record.linked_resource)
    if record.status is None:
        raise RequestInProgress


def _describe_mismatch(record: Record, parts: RequestParts) -> KeyReused:
    mismatch = _differing_pointers(record, parts)
    # Method and path are empty in a key that was reclaimed after its purge: the first request is no longer known.
    known = [name for name in ("method", "path") if getattr(record, name)]
    differing = [name for name in known if getattr(record, name) != getattr(parts, name)]
    if mismatch:
        differing.append("body")
    if not differing and record.members is not None:
        differing.append("query")  # everything else is equal
    return KeyReused(
        mismatch=mismatch, parts=differing, first_request_at=record.created_at, resource=record.linked_resource
    )


def _differing_pointers(record: Record, parts: RequestParts) -> list[str]:
    if record.erased_at is not None:
        return []
    if (record.members is None) != (parts.document is NO_DOCUMENT):
        return [""]  # only one of the two bodies is JSON: they differ as a whole
    return differing_members(record.members, parts.document, record.fingerprint_kid)


def member_digests(body: Any, kid: str) -> bytes:  # noqa: ANN401 # JSON
    """Return the digest of each leaf member and its pointer (`pack_members`).

    If MAX_DEPTH gives over MAX_MEMBERS leaves, use less depth.
    """
    secret = secret_of(kid)
    leaves: Members = {"": body}
    for depth in range(1, MAX_DEPTH + 1):
        deeper = _leaves(body, depth)
        if len(deeper) > MAX_MEMBERS:
            break
        leaves = deeper
    return pack_members({pointer: _digest(secret, pointer, value) for pointer, value in leaves.items()})


def pack_members(digests: dict[str, bytes]) -> bytes:
    """Return the number of digests, the digests and their pointers, in the order of the pointers.

    A pointer is written without the parent that it shares with the one before it. U+0000, which no member's name contains,
    separates them.
    """
    pointers, names, parent = sorted(digests), [], ""
    for pointer in pointers:
        above, _, name = pointer.rpartition("/")
        names.append(name if above and above == parent else pointer)
        parent = above
    return b"".join([bytes([len(pointers)]), *(digests[pointer] for pointer in pointers), "\0".join(names).encode()])


def unpack_members(packed: bytes) -> dict[str, bytes]:
    """Return the digests by pointer that `pack_members` was given."""
    names_start = 1 + packed[0] * DIGEST_BYTES
    digests, parent = {}, ""
    for name, start in zip(packed[names_start:].decode().split("\0"), range(1, names_start, DIGEST_BYTES), strict=True):
        pointer = f"{parent}/{name}" if parent and not name.startswith("/") else name
        parent = pointer.rpartition("/")[0]
        digests[pointer] = packed[start : start + DIGEST_BYTES]
    return digests


def differing_members(stored: bytes | None, body: Any, kid: str) -> list[str]:  # noqa: ANN401 # JSON
    """Return the sorted pointers, at most 64, of leaf members added, removed or changed since `stored` was made.

    Return none without stored digests: they are erased together with the payload.
    """
    if stored is None:
        return []
    secret = secret_of(kid)
    known = unpack_members(stored)
    present: Members = {}
    for depth in range(MAX_DEPTH + 1):
        present |= _leaves(body, depth)  # at every depth, because `stored` may have been made with less depth
    differing = {
        pointer
        for pointer, digest in known.items()
        if pointer not in present or _digest(secret, pointer, present[pointer]) != digest
    }
    # If an enclosing member has a digest, the change of that digest already reports a new member inside it.
    # The exception is an enclosing member that was an empty object.
    covering = {pointer for pointer, digest in known.items() if _digest(secret, pointer, {}) != digest}
    differing |= {
        pointer
        for pointer in _leaves(body, MAX_DEPTH)
        if pointer not in known and covering.isdisjoint(_ancestors(pointer))
    }
    covered = {ancestor for pointer in differing for ancestor in _ancestors(pointer)}
    return sorted(differing - covered)[:MAX_MEMBERS]


def _leaves(value: Any, depth: int, pointer: str = "") -> Members:  # noqa: ANN401 # JSON
    """Return the values down to that depth; arrays and empty objects are leaves."""
    if depth == 0 or not isinstance(value, dict) or not value:
        return {pointer: value}
    leaves: Members = {}
    for name, member in value.items():
        leaves |= _leaves(member, depth - 1, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")
    return leaves


def _ancestors(pointer: str) -> list[str]:
    """Return the pointers of all values that contain this member, including the whole body ("")."""
    steps = pointer.split("/")
    return ["/".join(steps[:count]) for count in range(1, len(steps))]


def _digest(secret: bytes, pointer: str, value: Any) -> bytes:  # noqa: ANN401 # JSON
    # The digest covers the pointer, so that equal values at two places have different digests.
    name = pointer.encode()
    message = b"member:%d:%b%b" % (len(name), name, exact_json.dumps_parsed(value))
    return hmac.digest(secret, message, "sha256")[:DIGEST_BYTES]
