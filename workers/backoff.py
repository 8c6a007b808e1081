"""The delay before the next attempt: full jitter, so that jobs that failed together do not retry together.

Source: M. Brooker, "Exponential Backoff And Jitter", 2015.
"""

import random
from datetime import timedelta

from django.conf import settings


def retry_delay(*, attempts_charged: int, at_least: timedelta | None = None) -> timedelta:
    """Return a random delay below base x 2^(attempts - 1), capped; never shorter than the downstream's own `Retry-After`."""
    ceiling = min(
        settings.BACKOFF_MAX_SECONDS, settings.BACKOFF_BASE_SECONDS * 2.0 ** min(max(attempts_charged - 1, 0), 30)
    )
    jittered = timedelta(seconds=random.uniform(0, ceiling))  # noqa: S311 - spreads load, hides nothing
    return max(jittered, at_least) if at_least is not None else jittered
