"""The demo's scenes: each plays one trouble, counts from outside, and returns its line of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.devstack.scenes.crowd import crowd
from config.devstack.scenes.killed_worker import killed_worker
from config.devstack.scenes.lost_answer import lost_answer
from config.devstack.scenes.provisioned_database import provisioned_database
from config.devstack.scenes.repeated_event import repeated_event
from config.devstack.scenes.report import report
from config.devstack.scenes.reused_key import reused_key
from config.devstack.scenes.stopped_broker import stopped_broker

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.devstack.stage import Row, Stage

SCENES: tuple[Callable[[Stage], Row], ...] = (
    lost_answer,
    crowd,
    reused_key,
    killed_worker,
    stopped_broker,
    repeated_event,
    provisioned_database,
    report,
)
