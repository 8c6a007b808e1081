"""What happened, for whoever counts it: sent robustly, so that a listener can break nothing."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

# The breaker in front of Redis has opened: a row of failures, after which nothing is sent for a while.
breaker_opened: Final = Signal()
# It has closed: the link works again.
breaker_closed: Final = Signal()
