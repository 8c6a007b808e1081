"""What happened, for whoever counts it: sent outside of any transaction, and unable to break an answer."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

# A request ran as the first with its key, and its answer was stored: record_id.
accepted: Final = Signal()
# A stored answer was sent again: record_id. Replays are counted from this, since they write nothing
# themselves.
replayed: Final = Signal()
# A request was refused since its key stands for another one: record_id.
mismatched: Final = Signal()
