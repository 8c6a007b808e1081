"""What happened, for whoever counts it: sent outside of any transaction, and unable to break an answer."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

# A request ran as the first with its key, and its answer was stored: record_id, is_takeover (the key had stood for an
# earlier request, which had expired).
accepted: Final = Signal()
# A stored answer was sent again: record_id, record, has_waited (it came while the first request was being accepted).
# Replays are counted from this, since they write nothing themselves.
replayed: Final = Signal()
# A request was refused since its key stands for another one: record_id.
mismatched: Final = Signal()
# A request was refused since the first one with its key was still being accepted.
in_progress: Final = Signal()
