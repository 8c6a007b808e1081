"""One circuit breaker for all that a web process sends to Redis: a dead broker may cost a client one time-out, not three."""

from __future__ import annotations

import threading
import time

from django.conf import settings


class Breaker:
    """Open after a row of failures; then one caller at a time may try, and a success closes it.

    Everything behind it is a hint (a message, a wake-up, a limit), so that leaving it out is always right.
    """

    def __init__(self, *, failures: int, open_seconds: float) -> None:
        self._limit = failures
        self._open_seconds = open_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_again_at = 0.0

    def allows(self) -> bool:
        """Whether to try now. Once the pause is over, True for one caller and a new pause for the others."""
        with self._lock:
            if self._failures < self._limit:
                return True
            now = time.monotonic()
            if now < self._closed_again_at:
                return False
            self._closed_again_at = now + self._open_seconds
            return True

    def succeeded(self) -> None:
        """The link works; forget the failures."""
        self._failures = 0

    def failed(self) -> None:
        """Count a failure; the last of a row opens the breaker."""
        with self._lock:
            self._failures += 1
            self._closed_again_at = time.monotonic() + self._open_seconds

    @property
    def is_open(self) -> bool:
        """Whether the link is taken to be down."""
        return self._failures >= self._limit


redis_breaker = Breaker(failures=settings.BREAKER_FAILURES, open_seconds=settings.BREAKER_OPEN_SECONDS)
