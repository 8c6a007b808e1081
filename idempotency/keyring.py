"""The secrets of the fingerprints: the newest makes them, old ones still verify what they made."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings


@lru_cache(maxsize=8)
def parse_keyring(entries: tuple[str, ...]) -> dict[str, bytes]:
    """Return the secrets by kid, the newest first; ValueError unless each entry is "kid:secret"."""
    secrets: dict[str, bytes] = {}
    for entry in entries:
        kid, _, secret = entry.partition(":")
        if not kid or not secret or kid in secrets:
            # The entry is not shown: half of it is a secret.
            raise ValueError('Each fingerprint key is "kid:secret", each kid stands once.')
        secrets[kid] = secret.encode()
    if not secrets:
        raise ValueError("At least one fingerprint key is needed.")
    return secrets


def current_kid() -> str:
    """Return the kid under which new fingerprints are made."""
    return next(iter(parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS))))


def find_secret(kid: str) -> bytes | None:
    """Return the secret of that kid, None when this process does not have it (any more, or yet)."""
    return parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS)).get(kid)
