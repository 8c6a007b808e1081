# ruff: noqa: N818 # domain errors are named for what happened
"""Reasons why a request cannot be answered under its idempotency key. The first docstring line is the client's message."""

from collections.abc import Sequence
from datetime import datetime


class IdempotencyError(Exception):
    """The request cannot be handled under its idempotency key."""

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").partition("\n")[0]
        super().__init__(self.detail)


class KeyMissing(IdempotencyError):
    """This request needs an Idempotency-Key header."""


class KeyInvalid(IdempotencyError):
    """The Idempotency-Key must be 1 to 255 printable ASCII characters, bare or quoted (RFC 9651)."""


class TtlInvalid(IdempotencyError):
    """The Idempotency-TTL must be a whole number of seconds from 3600 to 2592000."""


class KeyReused(IdempotencyError):
    """The key was already used for a different request. Send a new request with a new key."""

    def __init__(
        self, *, mismatch: Sequence[str], parts: Sequence[str], first_request_at: datetime, resource: str | None
    ) -> None:
        super().__init__()
        self.mismatch = list(mismatch)  # JSON pointers (RFC 6901) of the body members that differ; no values
        self.parts = list(parts)  # which of "method", "path", "query", "body" differ
        self.first_request_at = first_request_at
        self.resource = resource


class RequestInProgress(IdempotencyError):
    """The first request with this key is still being accepted. Retry this request unchanged after a short pause."""

    def __init__(self, *, retry_after_seconds: int = 1) -> None:
        super().__init__()
        self.retry_after_seconds = retry_after_seconds


class PayloadErased(IdempotencyError):
    """The request took effect, but its stored response has been erased. It will not run again."""

    def __init__(self, *, resource: str | None) -> None:
        super().__init__()
        self.resource = resource


class KeyChanged(IdempotencyError):
    """The key has been released or reused since this page was loaded. Nothing was changed; load the page again."""


class ResourceNotEnded(IdempotencyError):
    """The key cannot be released yet: what its request started has not ended."""

    def __init__(self, *, resource: str | None) -> None:
        super().__init__()
        self.resource = resource


class MalformedJson(IdempotencyError):
    """The body must be JSON with exactly one meaning."""


class UnsupportedContentEncoding(IdempotencyError):
    """The body must be sent without a Content-Encoding."""

    def __init__(self, *, encoding: str) -> None:
        super().__init__()
        self.encoding = encoding


class FingerprintUnverifiable(IdempotencyError):
    """The first request cannot be compared yet: its fingerprint secret or version is missing on this server. Retry later."""

    def __init__(self, *, version: int, kid: str) -> None:
        super().__init__()
        self.version = version
        self.kid = kid
