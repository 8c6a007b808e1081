"""Whether two requests are the same: a keyed digest of the canonical request.

Keyed, so that whoever reads the table cannot test guesses of a body against it. A record is always compared
under its own version and kid: neither a rotated secret nor a better canonical form may make a client's retry
look different.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from foundation import exact_json
from idempotency.errors import FingerprintUnverifiable
from idempotency.keyring import find_secret

if TYPE_CHECKING:
    from collections.abc import Iterable

CURRENT_VERSION: Final = 1

# Says that a request had no JSON body; None is one.
NO_DOCUMENT: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParts:
    """All of a request that makes it this request: not its headers, which proxies and SDK versions change."""

    method: str
    path: str
    query: str = ""  # as it stood in the URL
    content_type: str = ""  # counts only where the body is no JSON
    body: bytes = b""
    document: Any = NO_DOCUMENT  # the body's exact value, if it is JSON


def compute(parts: RequestParts, *, version: int, kid: str) -> bytes:
    """Return the 32-byte digest of the request; FingerprintUnverifiable for a version or kid unknown here."""
    secret = find_secret(kid)
    if secret is None or version != CURRENT_VERSION:
        raise FingerprintUnverifiable(version=version, kid=kid)
    if parts.document is NO_DOCUMENT:
        kind, content = (parts.content_type if parts.body else ""), parts.body
    else:
        kind, content = "json", exact_json.dumps(parts.document)
    fields = [b"fingerprint", b"1", _encode(parts.method), _encode(parts.path)]
    fields += [_join(_canonical_query(parts.query)), _encode(kind), content]
    return hmac.digest(secret, _join(fields), "sha256")


def is_same(parts: RequestParts, *, fingerprint: bytes, version: int, kid: str) -> bool:
    """Whether the request is the one that was fingerprinted, decided in constant time."""
    return hmac.compare_digest(fingerprint, compute(parts, version=version, kid=kid))


def _canonical_query(query: str) -> list[bytes]:
    """Return names and values in turn, sorted by name; the values of one name keep their order."""
    # surrogateescape: two different broken byte sequences must not both become U+FFFD.
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    pairs.sort(key=lambda pair: pair[0])
    return [_encode(text) for pair in pairs for text in pair]


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _join(fields: Iterable[bytes]) -> bytes:
    """Return the fields, each after its length, so that no byte can move from one into the next unseen."""
    return b"".join(b"%d:%b" % (len(field), field) for field in fields)
