"""Facts for metrics, sent outside any transaction. A receiver that fails is logged and does not change the response."""

from typing import Final

from django.dispatch import Signal

# The first request with a key ran and its response was stored: record_id, is_takeover (the key's previous record had expired).
accepted: Final = Signal()
# A stored response was returned: record_id, record, has_waited (the first request was still being accepted on arrival).
replayed: Final = Signal()
# A request was refused because its key belongs to another request: record_id.
mismatched: Final = Signal()
# A request was refused because the first one with its key was still being accepted.
in_progress: Final = Signal()
