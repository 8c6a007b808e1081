"""One circuit breaker for all that a process sends to Redis: if Redis is down, a request waits for one time-out at most."""

import threading
import time

from django.conf import settings

from broker import signals

# After a failure, its thread sends nothing for this time: longer than the rest of one request, much shorter than open_seconds.
_SPARED_SECONDS = 0.5


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
        self._thread = threading.local()

    @property
    def is_open(self) -> bool:
        """Return whether the last failures reached the limit."""
        with self._lock:
            return self._failures >= self._limit

    def allows(self) -> bool:
        """Return True if the caller may send now. After each pause one caller gets True; the others get False for one more pause.

        A thread that had a failure within the last _SPARED_SECONDS gets False, so that one request waits for one time-out only.
        """
        if time.monotonic() < getattr(self._thread, "spared_until", 0.0):
            return False
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
        self._thread.spared_until = 0.0
        if was_open:
            signals.breaker_closed.send_robust(sender=None)

    def failed(self) -> None:
        """Count a failure, and open the breaker at the limit."""
        self._thread.spared_until = time.monotonic() + _SPARED_SECONDS
        with self._lock:
            self._failures += 1
            opens = self._failures == self._limit
            self._next_try_at = time.monotonic() + self._open_seconds
        if opens:
            signals.breaker_opened.send_robust(sender=None)


redis_breaker = CircuitBreaker(failures=settings.BREAKER_FAILURES, open_seconds=settings.BREAKER_OPEN_SECONDS)
