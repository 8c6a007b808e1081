"""One circuit breaker for all that a web process sends to Redis: a dead broker may cost a client one time-out, not three."""

from __future__ import annotations

import threading
import time

from django.conf import settings

from broker import signals

# Longer than what is left of a request after its first failure, much shorter than the pause.
_SPARED_SECONDS = 0.5


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
        self._thread = threading.local()

    @property
    def is_open(self) -> bool:
        """Whether a row of failures was met, and no success since."""
        with self._lock:
            return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether to try now. Once the pause is over, True for one caller and a new pause for the others.

        A thread that has just paid for a failure does not pay again for the same client.
        """
        if time.monotonic() < getattr(self._thread, "spared_until", 0.0):
            return False
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
        with self._lock:
            was_open = self._failures >= self._limit
            self._failures = 0
        self._thread.spared_until = 0.0
        if was_open:
            signals.breaker_closed.send_robust(sender=None)

    def failed(self) -> None:
        """Count a failure; the last of a row opens the breaker."""
        self._thread.spared_until = time.monotonic() + _SPARED_SECONDS
        with self._lock:
            self._failures += 1
            opens = self._failures == self._limit
            self._closed_again_at = time.monotonic() + self._open_seconds
        if opens:
            signals.breaker_opened.send_robust(sender=None)


redis_breaker = Breaker(failures=settings.BREAKER_FAILURES, open_seconds=settings.BREAKER_OPEN_SECONDS)
