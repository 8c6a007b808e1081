"""What an API key looks like and how it is checked, with no database in sight."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_MODES = ("test", "live")
_ID_BYTES = 8  # 16 hex digits: unique, and no secret
_SECRET_BYTES = 32
_ID = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")


@dataclass(frozen=True)
class Credential:
    """An API key taken apart. ``str`` of it is what a client sends."""

    mode: str
    id: str
    secret: str

    def __str__(self) -> str:
        return f"{self.mode}_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        """Never shows the secret, so that no log or traceback can."""
        return f"<Credential {self.mode}_{self.id}_…>"


def new_credential(mode: str, key_id: str | None = None) -> Credential:
    """A fresh random key; its id may be chosen, its secret never."""
    return Credential(mode, key_id or secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES))


def parse_credential(text: str) -> Credential | None:
    """The key's parts, or None where it cannot be one of ours."""
    mode, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    # The id goes to the database: nothing but the digits that we give out, since U+0000 would be an error there.
    if mode not in _MODES or not _ID.fullmatch(key_id) or not secret or not text.isascii():
        return None
    return Credential(mode, key_id, secret)


def digest(secret: str) -> bytes:
    """What is stored of a secret. It has 256 random bits, so that a plain hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


# Compared with when the id is unknown, so that the time tells nobody which ids exist.
_NOBODY = digest(secrets.token_urlsafe(_SECRET_BYTES))


def matches(credential: Credential, stored: bytes | None) -> bool:
    """Whether the secret is the stored one, in a time that does not depend on the answer."""
    return hmac.compare_digest(digest(credential.secret), stored or _NOBODY) and stored is not None
