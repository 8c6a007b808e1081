"""The demo's scenes: each plays one trouble, counts from outside, and returns its line of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.devstack.scenes.crowd import crowd
from config.devstack.scenes.lost_answer import lost_answer
from config.devstack.scenes.reused_key import reused_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.devstack.stage import Row, Stage

SCENES: tuple[Callable[[Stage], Row], ...] = (lost_answer, crowd, reused_key)
