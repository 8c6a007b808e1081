"""Who sent a message, and that nobody changed it: Standard Webhooks (standard-webhooks spec 1.0), symmetric signatures."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PREFIX = "whsec_"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
# Seconds that a message's clock may be from ours, either way: as much as the specification's own libraries allow.
TOLERANCE_SECONDS = 300
_ID_MAX = 255
# Bytes of a secret, as the specification has them.
_SECRET_MIN, _SECRET_MAX = 24, 64
# Signatures of one message that are looked at: one for each secret while secrets rotate.
_SIGNATURES_MAX = 10


class NotSigned(Exception):  # noqa: N818 - what is known of the message
    """The message was not signed by its source, not now, or not as it arrived."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


@dataclass(frozen=True)
class Signed:
    """What the headers say of a message."""

    message_id: str
    timestamp: int


def decode_secret(secret: str) -> bytes:
    """The bytes of a secret as providers show it ("whsec_" and base64). Raises ValueError for any other."""
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("A secret is whsec_ and base64.") from None
    if not _SECRET_MIN <= len(key) <= _SECRET_MAX:
        raise ValueError(f"A secret has {_SECRET_MIN} to {_SECRET_MAX} bytes.")
    return key


def sign(message_id: str, timestamp: int, body: bytes, key: bytes) -> str:
    """The signature of the message, as its header has it."""
    content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}"


def verify(headers: Mapping[str, str], body: bytes, *, keys: Collection[bytes], now: float) -> Signed:
    """The message's id and time, once any of the keys has signed exactly this. Raises NotSigned, and tells what is amiss.

    Compared in a time that does not depend on the answer; another version of signature is passed over.
    """
    message_id = headers.get(ID, "")
    if not (0 < len(message_id) <= _ID_MAX and message_id.isascii() and message_id.isprintable()):
        raise NotSigned(f"{ID} must have 1 to {_ID_MAX} printable ASCII characters.")
    stamp = headers.get(TIMESTAMP, "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= len("9999999999")):
        raise NotSigned(f"{TIMESTAMP} must be whole seconds since 1970.")
    timestamp = int(stamp)
    if abs(now - timestamp) > TOLERANCE_SECONDS:
        raise NotSigned(f"{TIMESTAMP} is more than {TOLERANCE_SECONDS} s from now: sign each delivery anew.")
    shown = headers.get(SIGNATURE, "").split(" ")[:_SIGNATURES_MAX]
    expected = [sign(message_id, timestamp, body, key).encode() for key in keys]
    matches = [hmac.compare_digest(one.encode(), other) for one in shown for other in expected]
    if not any(matches):
        raise NotSigned(f"No {SIGNATURE} of version v1 fits this message and its source's secret.")
    return Signed(message_id, timestamp)
