"""Semel's processes and their commands: the same as in docker-compose.yml."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from devstack.ports import HOST
from devstack.processes import Command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Two processes even on a small machine: what holds between requests must hold by the database, not by one interpreter.
API_WORKERS = "2"
WORKER_PROCESSES = "2"
API_THREADS = "8"
# Less than the launcher's own grace: granian tells its workers, waits, and still has time to end itself.
API_KILL_SECONDS = "2"
# Its own lines look like all others. The line of each request is ours.
GRANIAN_LOGS = "observability/granian.json"


def migrate(env: Mapping[str, str]) -> Command:
    """Bring the schema up to date, and end."""
    return _python("migrate", env, "manage.py", "migrate", "--verbosity", "1", process="manage")


def api(env: Mapping[str, str], port: int) -> Command:
    """Plain requests."""
    threads = env.get("API_THREADS", API_THREADS)
    options = ["--interface", "wsgi", "--host", HOST, "--port", str(port), "--no-access-log"]
    logs = ["--log-config", GRANIAN_LOGS]
    capacity = ["--workers", env.get("API_WORKERS", API_WORKERS), "--blocking-threads", threads]
    survival = ["--workers-kill-timeout", API_KILL_SECONDS, "--respawn-failed-workers"]
    arguments = [*options, *logs, *capacity, *survival, "config.wsgi:application"]
    return _python("api", {**env, "API_THREADS": threads}, "-m", "granian", *arguments, process="api")


def streams(env: Mapping[str, str], port: int) -> Command:
    """Waiting requests: thousands of open connections."""
    options = ["--host", HOST, "--port", str(port), "--timeout-graceful-shutdown", "5", "--no-access-log"]
    return _python("streams", env, "-m", "uvicorn", "config.asgi:application", *options, process="streams")


def worker(env: Mapping[str, str]) -> Command:
    """Runs jobs."""
    processes = env.get("WORKER_PROCESSES", WORKER_PROCESSES)
    options = ["-Q", "high,default,low", "-c", processes, "-n", "worker@%h", *_QUIET]
    return _celery("worker", env, "worker", *options)


def maintenance(env: Mapping[str, str]) -> Command:
    """Sweeps and purges, never behind a backlog."""
    return _celery(
        "maintenance", env, "worker", "-Q", "maintenance", "-c", "1", "-n", "maintenance@%h", *_QUIET
    )


def beat(env: Mapping[str, str], schedule: Path) -> Command:
    """Ticks."""
    return _celery("beat", env, "beat", "--schedule", str(schedule))


def provider(
    env: Mapping[str, str], port: int, book: Path, key: str, *, webhook_url: str, webhook_secret: str
) -> Command:
    """The sandbox payment provider, in place of a real one. It tells of its charges where the url says."""
    # One word: a key is random, and one that begins with a dash alone would be taken for an option.
    arguments = ["--port", str(port), "--book", str(book), f"--key={key}", "--webhook-url", webhook_url]
    env = {**env, "PROVIDER_WEBHOOK_SECRET": webhook_secret}
    return _python("provider", env, "-m", "devstack.sandbox_provider", *arguments, process="manage")


# Workers need not know of each other, and asking around would cost a second at each start.
_QUIET = ("--without-mingle", "--without-gossip", "--loglevel", "INFO")


def _celery(name: str, env: Mapping[str, str], *arguments: str) -> Command:
    # SIGTERM lets a job under way finish for a while and then gives it back, as in a deployment.
    remapped = {**env, "REMAP_SIGTERM": "SIGQUIT"}
    # Quiet: without a banner, which is no log line.
    return _python(name, remapped, "-m", "celery", "-A", "config", "-q", *arguments, process="worker")


def _python(name: str, env: Mapping[str, str], *arguments: str, process: str) -> Command:
    return Command(name, [sys.executable, *arguments], {**env, "SEMEL_PROCESS": process})
