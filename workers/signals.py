"""What observability counts. Sent with `send_robust`, so that a receiver cannot break the sender."""

from typing import Final

from django.dispatch import Signal

# A delivery found nothing to claim: reason (jobs.selectors.unclaimed_reason).
delivery_dropped: Final = Signal()
# An attempt ended: operation, outcome (the lower-case name of a class in workers.outcomes), seconds.
attempt_ended: Final = Signal()
# A fenced write of an attempt matched no row. Once an attempt.
write_refused: Final = Signal()
# A sweep or a purge ended: counts, seconds.
swept: Final = Signal()
purged: Final = Signal()
