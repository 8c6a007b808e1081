"""The API keys that this process has read within the last seconds, so that most requests send no statement for theirs."""

import threading
import time
from collections.abc import Iterable
from typing import Final

from django.conf import settings

from accounts.queries import LiveKey, find_live_key

# Keys that one process remembers: more than it serves in five seconds, and a few megabytes.
MAX_KEYS: Final = 10_000


class CredentialCache:
    """Live API keys by id, each for CREDENTIAL_CACHE_SECONDS after it was read and never beyond its expiry.

    Until then a revoked key is still accepted by this process. A key that does not exist is never remembered: it may be created.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[LiveKey, float]] = {}

    def get(self, *, key_id: str, mode: str) -> LiveKey | None:
        """Return the key if it was read lately. The caller compares the secret."""
        key, usable_until = self._keys.get(key_id, (None, 0.0))
        return key if key is not None and key.mode == mode and time.monotonic() < usable_until else None

    def read(self, *, key_id: str, mode: str) -> LiveKey | None:
        """Read the key from the database and remember it; None if it is not live. If the cache is full, drop the oldest."""
        # Before the read: a key that is revoked after the read is then refused CREDENTIAL_CACHE_SECONDS later, and no more.
        read_at = time.monotonic()
        key = find_live_key(key_id=key_id, mode=mode)
        if key is not None:
            seconds: float = settings.CREDENTIAL_CACHE_SECONDS
            if key.seconds_left is not None:
                seconds = min(seconds, key.seconds_left)
            with self._lock:
                self._keys.pop(key_id, None)
                if len(self._keys) >= MAX_KEYS:
                    del self._keys[next(iter(self._keys))]
                self._keys[key_id] = key, read_at + seconds
        return key

    def forget(self, key_ids: Iterable[str]) -> None:
        """Forget these keys: they are known not to be live any more."""
        with self._lock:
            for key_id in key_ids:
                self._keys.pop(key_id, None)

    def clear(self) -> None:
        """Forget everything, as in a new process."""
        with self._lock:
            self._keys.clear()


credential_cache: Final = CredentialCache()
