"""Command lines for a terminal, ready to be copied. They hold no credential: whoever runs them has one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.models import Job

# Expanded by the shell of whoever copies the line; no key is ever written into a page.
_AUTHORIZATION = '-H "Authorization: Bearer $SEMEL_API_KEY"'


@dataclass(frozen=True)
class CommandLine:
    """What it tells, and the line."""

    title: str
    line: str


def command_lines(job: Job, *, base_url: str) -> list[CommandLine]:
    """How to ask the API and the workers about this job."""
    address = shlex.quote(f"{base_url}/v1/jobs/{job.id}")
    events = shlex.quote(f"{base_url}/v1/jobs/{job.id}/events")
    whose = f"an API key of {job.tenant.name}, mode {job.mode}"
    # A lease names host and process; Celery's node is worker@host (see devstack/services.py and docker-compose.yml).
    host = job.worker.rpartition(":")[0] if job.worker else ""
    only = f" -d {shlex.quote(f'worker@{host}')}" if host else ""
    return [
        CommandLine(f"The job, as its client sees it ({whose})", f"curl -sS {_AUTHORIZATION} {address}"),
        CommandLine("Its history", f"curl -sS {_AUTHORIZATION} {events}"),
        CommandLine(
            "Is a worker at it? Each task names its job in `args`", f"celery -A config inspect active{only}"
        ),
        CommandLine("What the workers have counted", f"celery -A config inspect stats{only}"),
    ]
