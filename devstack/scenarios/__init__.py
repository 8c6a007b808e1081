"""The demo's scenarios: each causes one fault, counts the effects from outside, and returns its row of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devstack.scenarios.crowd import crowd
from devstack.scenarios.killed_worker import killed_worker
from devstack.scenarios.lost_answer import lost_answer
from devstack.scenarios.provisioned_database import provisioned_database
from devstack.scenarios.repeated_event import repeated_event
from devstack.scenarios.report import report
from devstack.scenarios.reused_key import reused_key
from devstack.scenarios.stopped_broker import stopped_broker

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient, Result

SCENARIOS: tuple[Callable[[DemoClient], Result], ...] = (
    lost_answer,
    crowd,
    reused_key,
    killed_worker,
    stopped_broker,
    repeated_event,
    provisioned_database,
    report,
)
