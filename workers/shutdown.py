"""Whether this worker has been told to stop: its children give their jobs back at their next check, at no charge."""

from __future__ import annotations

import mmap

# Anonymous memory, shared with the children that are forked later. Written by the parent, once and for good.
_flag = mmap.mmap(-1, 1)


def announce_shutdown() -> None:
    """From now on every attempt of this worker postpones its job as soon as it asks."""
    _flag[0] = 1


def is_shutting_down() -> bool:
    """Whether the worker stops. A memory read."""
    return _flag[0] == 1
