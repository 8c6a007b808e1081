"""One circuit breaker for all that a process sends to Redis: while Redis is down, few callers wait for a time-out."""

import threading
import time

from django.conf import settings

from broker import signals


class CircuitBreaker:
    """Opens after several failures in a row. Then one caller per pause may try, and a success closes it.

    Everything behind it is a hint (a message, a wake-up, a rate limit), so it is always safe to leave it out.
    """

    def __init__(self, *, failures: int, open_seconds: float) -> None:
        self._limit = failures
        self._open_seconds = open_seconds
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try_at = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether the last failures reached the limit."""
        with self._lock:
            return self._failures >= self._limit

    def allows(self) -> bool:
        """Return True if the caller may send now. While the breaker is open, one caller after each pause may."""
        with self._lock:
            if self._failures < self._limit:
                return True
            now = time.monotonic()
            if now < self._next_try_at:
                return False
            self._next_try_at = now + self._open_seconds
            return True

    def succeeded(self) -> None:
        """Forget all failures and close the breaker."""
        with self._lock:
            was_open = self._failures >= self._limit
            self._failures = 0
        if was_open:
            signals.breaker_closed.send_robust(sender=None)

    def failed(self) -> None:
        """Count a failure, and open the breaker at the limit."""
        with self._lock:
            self._failures += 1
            opens = self._failures == self._limit
            self._next_try_at = time.monotonic() + self._open_seconds
        if opens:
            signals.breaker_opened.send_robust(sender=None)


redis_breaker = CircuitBreaker(failures=settings.BREAKER_FAILURES, open_seconds=settings.BREAKER_OPEN_SECONDS)
