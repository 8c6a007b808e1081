"""A flag that a stopping worker shares with its child processes.

Each attempt then postpones its job, which charges no attempt.
"""

import mmap

# Anonymous memory, shared with all children that are forked later. The parent writes it once.
_flag = mmap.mmap(-1, 1)


def announce_shutdown() -> None:
    """Make every attempt of this worker postpone its job at its next check."""
    _flag[0] = 1


def is_shutting_down() -> bool:
    """Return whether the worker stops. Costs a memory read."""
    return _flag[0] == 1
