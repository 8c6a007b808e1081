"""Limit the request rate of each tenant. DRF's throttle is not used.

It reads and writes in two steps, so concurrent requests pass it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.authentication import principal_of
from broker.rate_limit import take_from_bucket

if TYPE_CHECKING:
    from rest_framework.views import APIView


class TenantRateLimit(BaseThrottle):
    """Refuse a tenant's requests above its rate. Without Redis there is no limit and no error."""

    _wait_ms = 0

    def allow_request(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        """Return whether the request is within the limit. No Redis round trip where no limit is set."""
        rate = settings.RATE_LIMIT_PER_SECOND
        if rate:
            bucket = f"semel:rate:{principal_of(request).scope}"
            self._wait_ms = take_from_bucket(bucket, per_second=rate, burst=settings.RATE_LIMIT_BURST)
        return self._wait_ms == 0

    def wait(self) -> float:
        """Return the seconds until a request would pass."""
        return self._wait_ms / 1000
