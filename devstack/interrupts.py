"""Signals that end the launcher, turned into one exception at most."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Someone wants the command to end; like KeyboardInterrupt, no handler of errors may swallow it."""

    def __init__(self, number: int) -> None:
        """``number``: the signal."""
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that this signal ended."""
        return 128 + self.number


class Interrupts:
    """Inside ``with``, the first signal raises Interrupted; while stopping, a signal only says: hurry."""

    def __init__(self) -> None:
        """Nobody has asked for anything yet."""
        self._is_stopping = False
        self._is_urgent = False

    def __enter__(self) -> Self:
        """Our handlers are in place."""
        for number in ENDING:
            # Under nohup the terminal may go: that is what it is for.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Late signals do nothing: the process is about to end by itself."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)

    def stopping(self) -> None:
        """From here on no signal raises: nothing can break into the stopping itself."""
        self._is_stopping = True

    def is_urgent(self) -> bool:
        """Whether a signal came while we were stopping."""
        return self._is_urgent

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_stopping:
            self._is_urgent = True
            return
        self._is_stopping = True
        raise Interrupted(number)
