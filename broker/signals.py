"""Signals that `observability` counts.

They are sent with `send_robust`, so that an error in a receiver does not reach the sender.
"""

from typing import Final

from django.dispatch import Signal

# The circuit breaker opened after several failures in a row, or closed after a success.
breaker_opened: Final = Signal()
breaker_closed: Final = Signal()
# Hints: sent, failed (Redis did not take it), skipped (the breaker was open, or the queue half full).
hints_published: Final = Signal()
