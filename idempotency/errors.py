# ruff: noqa: N818 # domain errors are named for what happened
"""Why a request cannot be answered under its idempotency key. Domain errors: they know no HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


class IdempotencyError(Exception):
    """The request cannot be handled under its idempotency key."""

    # Whether the same request under the same key can succeed later.
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(self.detail)


class KeyMissing(IdempotencyError):
    """This request needs an Idempotency-Key header."""


class KeyInvalid(IdempotencyError):
    """The Idempotency-Key is not 1 to 255 printable ASCII characters, bare or quoted (RFC 9651)."""


class TtlInvalid(IdempotencyError):
    """The Idempotency-TTL is not a whole number of seconds from 3600 to 2592000."""


class KeyReused(IdempotencyError):
    """The key was already used for another request; a new request needs a new key."""

    def __init__(
        self,
        *,
        mismatch: Sequence[str],
        parts: Sequence[str],
        first_request_at: datetime,
        resource: str | None,
    ) -> None:
        super().__init__()
        self.mismatch = list(
            mismatch
        )  # JSON pointers (RFC 6901) of the body's members that differ; never values
        self.parts = list(parts)  # which of "method", "path", "query", "body" differ
        self.first_request_at = first_request_at
        self.resource = resource


class RequestInProgress(IdempotencyError):
    """The first request with this key is still being accepted; repeat this one unchanged in a moment."""

    retryable = True

    def __init__(self, *, retry_after_seconds: int = 1) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class PayloadErased(IdempotencyError):
    """The request took effect, but its stored answer was erased since; it will not run again."""

    def __init__(self, *, resource: str | None) -> None:
        super().__init__()
        self.resource = resource


class KeyGone(IdempotencyError):
    """The key is free, or stands for another request by now; nothing was changed."""


class ResourceNotEnded(IdempotencyError):
    """What the key started has not ended, so that the key cannot be freed."""

    def __init__(self, *, resource: str | None) -> None:
        super().__init__()
        self.resource = resource


class MalformedJson(IdempotencyError):
    """The body is not JSON with exactly one meaning."""


class UnsupportedContentEncoding(IdempotencyError):
    """The body must be sent without a Content-Encoding."""

    def __init__(self, *, encoding: str) -> None:
        super().__init__()
        self.encoding = encoding


class FingerprintUnverifiable(IdempotencyError):
    """The first request's fingerprint was made under a secret or version that is missing here."""

    # An operator puts the secret back, or the deploy that knows the version reaches this process.
    retryable = True

    def __init__(self, *, version: int, kid: str) -> None:
        super().__init__()
        self.version = version
        self.kid = kid
