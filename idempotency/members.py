"""Which members of two bodies differ, told from digests alone.

With the fingerprint a record keeps one short keyed digest for each member, so that a refused request can be
told the JSON pointers (RFC 6901) that differ, although no value of the first request is kept here.
"""

from __future__ import annotations

import hmac
import json
from typing import Any, Final

from foundation import exact_json
from idempotency.errors import FingerprintUnverifiable
from idempotency.fingerprint import CURRENT_VERSION
from idempotency.keyring import find_secret

MAX_DEPTH: Final = 2
MAX_MEMBERS: Final = 64
# Enough that two values never agree by chance; these digests explain a mismatch, they do not decide it.
DIGEST_BYTES: Final = 8

Leaves = dict[str, Any]


def member_digests(body: Any, kid: str) -> bytes:  # noqa: ANN401 # JSON
    """Return the digests by pointer, leaf-most only; a body of too many members is described less deeply."""
    secret = _secret(kid)
    leaves: Leaves = {"": body}
    for depth in range(1, MAX_DEPTH + 1):
        deeper = _leaves(body, depth)
        if len(deeper) > MAX_MEMBERS:
            break
        leaves = deeper
    return exact_json.dumps({pointer: _digest(secret, pointer, value) for pointer, value in leaves.items()})


def differing_members(stored: bytes | None, body: Any, kid: str) -> list[str]:  # noqa: ANN401 # JSON
    """Return the pointers of members added, removed or changed since `stored` was made, leaf-most ones only.

    Sorted, at most 64. Empty without stored digests: they are erased together with the payload.
    """
    if stored is None:
        return []
    secret = _secret(kid)
    known: dict[str, str] = json.loads(stored)
    present: Leaves = {}
    for depth in range(MAX_DEPTH + 1):
        present |= _leaves(body, depth)  # on each level, since the first request may be described less deeply
    differing = {
        pointer
        for pointer, digest in known.items()
        if pointer not in present or _digest(secret, pointer, present[pointer]) != digest
    }
    # A new member is covered by what is known of the member around it, unless that was an empty object.
    covering = {pointer for pointer, digest in known.items() if _digest(secret, pointer, {}) != digest}
    differing |= {
        pointer
        for pointer in _leaves(body, MAX_DEPTH)
        if pointer not in known and covering.isdisjoint(_ancestors(pointer))
    }
    covered = {ancestor for pointer in differing for ancestor in _ancestors(pointer)}
    return sorted(differing - covered)[:MAX_MEMBERS]


def _leaves(value: Any, depth: int, pointer: str = "") -> Leaves:  # noqa: ANN401 # JSON
    """Return the values by pointer, down to that depth; arrays and empty objects are leaves."""
    if depth == 0 or not isinstance(value, dict) or not value:
        return {pointer: value}
    leaves: Leaves = {}
    for name, member in value.items():
        leaves |= _leaves(member, depth - 1, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")
    return leaves


def _ancestors(pointer: str) -> list[str]:
    """Return the pointers of all that contains this member, the whole body ("") included."""
    steps = pointer.split("/")
    return ["/".join(steps[:count]) for count in range(1, len(steps))]


def _digest(secret: bytes, pointer: str, value: Any) -> str:  # noqa: ANN401 # JSON
    # The pointer is part of it: equal values at two places must not show as equal.
    name = pointer.encode()
    message = b"member:%d:%b%b" % (len(name), name, exact_json.dumps(value))
    return hmac.digest(secret, message, "sha256")[:DIGEST_BYTES].hex()


def _secret(kid: str) -> bytes:
    secret = find_secret(kid)
    if secret is None:
        raise FingerprintUnverifiable(version=CURRENT_VERSION, kid=kid)
    return secret
