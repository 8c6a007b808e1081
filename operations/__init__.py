"""The operations of this deployment, named in settings.OPERATIONS."""

from datetime import timedelta

# Added to a downstream's own time-out: what an attempt needs around the call on a busy machine.
CALL_SLACK = timedelta(seconds=2)
