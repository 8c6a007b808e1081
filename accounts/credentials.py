"""The form of an API key, and how its secret is checked."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_MODES = ("test", "live")
_ID_BYTES = 8  # 16 hex digits: unique, not secret
_SECRET_BYTES = 32
_ID = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")


@dataclass(frozen=True)
class Credential:
    """An API key in its parts. ``str`` of it is what a client sends."""

    mode: str
    id: str
    secret: str

    def __str__(self) -> str:
        return f"{self.mode}_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        """Omit the secret, so that no log or traceback shows it."""
        return f"<Credential {self.mode}_{self.id}_…>"


def new_credential(mode: str, key_id: str | None = None) -> Credential:
    """Return a new random key. The caller may choose its id, never its secret."""
    return Credential(mode, key_id or secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES))


def parse_credential(text: str) -> Credential | None:
    """Return the key's parts, or None if the text cannot be an API key."""
    mode, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    # Only hex digits go to the database, where U+0000 would raise an error.
    if mode not in _MODES or not _ID.fullmatch(key_id) or not secret or not text.isascii():
        return None
    return Credential(mode, key_id, secret)


def digest(secret: str) -> bytes:
    """Return the stored form of a secret. A plain hash is enough, since the secret has 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()


# If the id is unknown, the secret is compared with this one, so that the response time does not show which ids exist.
_DUMMY = digest(secrets.token_urlsafe(_SECRET_BYTES))


def matches(credential: Credential, stored: bytes | None) -> bool:
    """Return whether the secret is the stored one, in a time that does not depend on the result."""
    return hmac.compare_digest(digest(credential.secret), stored or _DUMMY) and stored is not None
