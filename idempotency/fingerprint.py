"""Compute and compare fingerprints: keyed digests of the canonical request.

It is keyed so that a reader of the table cannot test guesses of a body. A record is always compared under its own
version and key id (`kid`): a rotated secret or a new canonical form must not make a retry look like another request.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

from django.conf import settings

from foundation import exact_json
from idempotency.errors import FingerprintUnverifiable

CURRENT_VERSION: Final = 1

# Marks a request without a JSON body; None is a JSON body.
NO_DOCUMENT: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParts:
    """The parts of a request that identify it. Headers are not among them: proxies and SDK versions change them."""

    method: str
    path: str
    query: str = ""  # as sent in the URL
    content_type: str = ""  # compared only if the body is not JSON
    body: bytes = b""
    document: Any = NO_DOCUMENT  # the body's exact value if it is JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A request's digest, the version and kid it was made under, and the digests of the body's members."""

    digest: bytes
    version: int
    kid: str
    members: bytes | None


@lru_cache(maxsize=8)
def parse_keyring(entries: tuple[str, ...]) -> dict[str, bytes]:
    """Return the fingerprint secrets by kid, the newest first. Raises ValueError unless each entry is "kid:secret"."""
    secrets: dict[str, bytes] = {}
    for entry in entries:
        kid, _, secret = entry.partition(":")
        if not kid or not secret or kid in secrets:
            # The message leaves the entry out, because half of it is a secret.
            raise ValueError('Each fingerprint key must be "kid:secret", and each kid must occur once.')
        secrets[kid] = secret.encode()
    if not secrets:
        raise ValueError("At least one fingerprint key is needed.")
    return secrets


def current_kid() -> str:
    """Return the kid under which new fingerprints are made."""
    return next(iter(parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS))))


def secret_of(kid: str, *, version: int = CURRENT_VERSION) -> bytes:
    """Return the secret of that kid. Raises FingerprintUnverifiable if this process does not know the kid or version."""
    secret = parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS)).get(kid)
    if secret is None or version != CURRENT_VERSION:
        raise FingerprintUnverifiable(version=version, kid=kid)
    return secret


def compute(parts: RequestParts, *, version: int, kid: str) -> bytes:
    """Return the request's 32-byte digest. Raises FingerprintUnverifiable."""
    secret = secret_of(kid, version=version)
    if parts.document is NO_DOCUMENT:
        kind, content = (parts.content_type if parts.body else ""), parts.body
    else:
        kind, content = "json", exact_json.dumps_parsed(parts.document)
    fields = [b"fingerprint", b"1", _encode(parts.method), _encode(parts.path)]
    fields += [_join(_canonical_query(parts.query)), _encode(kind), content]
    return hmac.digest(secret, _join(fields), "sha256")


def is_same(parts: RequestParts, *, fingerprint: bytes, version: int, kid: str) -> bool:
    """Return True if the request has this fingerprint. Compares in constant time; raises FingerprintUnverifiable."""
    return hmac.compare_digest(fingerprint, compute(parts, version=version, kid=kid))


def _canonical_query(query: str) -> list[bytes]:
    """Return names and values alternately, sorted by name; the values of one name keep their order."""
    # surrogateescape: two different broken byte sequences must not both become U+FFFD.
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    pairs.sort(key=lambda pair: pair[0])
    return [_encode(text) for pair in pairs for text in pair]


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _join(fields: Iterable[bytes]) -> bytes:
    """Return the fields, each after its length: a byte that moves from one field to the next changes the result."""
    return b"".join(b"%d:%b" % (len(field), field) for field in fields)
