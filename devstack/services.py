"""Semel's processes: their commands, the same as in docker-compose.yml, and checks that they are ready."""

import http.client
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from celery import Celery

from devstack.ports import HOST
from devstack.processes import Command

# Two processes even on a small machine, so that nothing depends on state inside one process.
API_WORKERS = "2"
WORKER_PROCESSES = "2"
# Operations that wait on the network have queues of their own; the same worker takes them.
WORKER_QUEUES = "high,default,low,io-high,io-default,io-low"
API_THREADS = "8"
# Open connections of one process, by the setting of this name.
CONNECTIONS = {"API_CONNECTIONS": "16384", "STREAMS_MAX_WAITS": "10000"}
# Connections that wait until a process takes them: thousands of clients may connect at once. The kernel takes at most
# net.core.somaxconn for each process (4096).
BACKLOG = "16384"
# granian closes a connection that is idle for this time, or that needs longer for its headers: the longest that granian takes.
# A proxy must close its idle connections earlier (deploy/nginx.conf).
API_IDLE_MS = "60000"
# Less than the launcher's own grace, so that granian has time to end itself after its workers.
API_KILL_SECONDS = "2"
# Formats granian's own log lines like all others. Request lines are written by Semel.
GRANIAN_LOGS = "observability/granian.json"


def migrate(env: Mapping[str, str]) -> Command:
    return _python("migrate", env, "manage.py", "migrate", "--verbosity", "1", process="manage")


def api(env: Mapping[str, str], port: int) -> Command:
    threads = env.get("API_THREADS", API_THREADS)
    # HTTP/1 only: a body over HTTP/2 may come without a length, and looks like an empty one to a WSGI application.
    options = ["--interface", "wsgi", "--http", "1", "--host", HOST, "--port", str(port), "--no-access-log"]
    logs = ["--log-config", GRANIAN_LOGS]
    capacity = ["--workers", env.get("API_WORKERS", API_WORKERS), "--blocking-threads", threads]
    # Without them granian accepts 1,024 connections in all.
    most = env.get("API_CONNECTIONS", CONNECTIONS["API_CONNECTIONS"])
    connections = ["--backlog", BACKLOG, "--backpressure", most]
    idle = ["--http1-header-read-timeout", API_IDLE_MS]
    survival = ["--workers-kill-timeout", API_KILL_SECONDS, "--respawn-failed-workers"]
    arguments = [*options, *logs, *capacity, *connections, *idle, *survival, "config.wsgi:application"]
    env = {**env, "API_THREADS": threads, "API_CONNECTIONS": most}
    return _python("api", env, "-m", "granian", *arguments, process="api")


def streams(env: Mapping[str, str], port: int) -> Command:
    """Return the command of the process for waiting requests: thousands of open connections."""
    options = ["--host", HOST, "--port", str(port), "--backlog", BACKLOG]
    options += ["--timeout-graceful-shutdown", "5", "--no-access-log"]
    return _python("streams", env, "-m", "uvicorn", "config.asgi:application", *options, process="streams")


def worker(env: Mapping[str, str]) -> Command:
    processes = env.get("WORKER_PROCESSES", WORKER_PROCESSES)
    options = ["-Q", WORKER_QUEUES, "-c", processes, "-n", "worker@%h", *_QUIET]
    return _celery("worker", env, "worker", *options)


def maintenance(env: Mapping[str, str]) -> Command:
    """Return the command of the worker that sweeps and purges, with a queue of its own so that no backlog delays it."""
    return _celery("maintenance", env, "worker", "-Q", "maintenance", "-c", "1", "-n", "maintenance@%h", *_QUIET)


def beat(env: Mapping[str, str], schedule: Path) -> Command:
    return _celery("beat", env, "beat", "--schedule", str(schedule))


def provider(
    env: Mapping[str, str], port: int, store: Path, key: str, *, webhook_url: str, webhook_secret: str
) -> Command:
    """Return the command of the sandbox payment provider, which sends its events to the webhook URL."""
    # `--key=` in one argument: a random key may start with a dash, and would be read as an option.
    arguments = ["--port", str(port), "--store", str(store), f"--key={key}", "--webhook-url", webhook_url]
    env = {**env, "PROVIDER_WEBHOOK_SECRET": webhook_secret}
    return _python("provider", env, "-m", "devstack.sandbox_provider", *arguments, process="manage")


# Workers do not need to know each other, and looking for others costs a second at each start.
_QUIET = ("--without-mingle", "--without-gossip", "--loglevel", "INFO")


def _celery(name: str, env: Mapping[str, str], *arguments: str) -> Command:
    # SIGTERM gives a running job some time to finish and then requeues it, as in a deployment.
    remapped = {**env, "REMAP_SIGTERM": "SIGQUIT"}
    # -q: no banner, which would not be a log line.
    return _python(name, remapped, "-m", "celery", "-A", "config", "-q", *arguments, process="worker")


def _python(name: str, env: Mapping[str, str], *arguments: str, process: str) -> Command:
    return Command(name, [sys.executable, *arguments], {**env, "SEMEL_PROCESS": process})


_RESPONSE_SECONDS = 5.0
_PONG_SECONDS = 0.5


def answers(port: int, path: str, *, key: str | None = None) -> Callable[[], bool]:
    """Return a check that the server at this port answers the path with 2xx, given the bearer key if there is one."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def check() -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=_RESPONSE_SECONDS)
        try:
            connection.request("GET", path, headers=headers)
            return 200 <= connection.getresponse().status < 300  # noqa: PLR2004 - 2xx
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


def answers_ping(redis_url: str, name: str) -> Callable[[], bool]:
    """Return a check that the Celery worker of this name answers a ping, as sent by ``celery inspect ping``."""
    app = Celery("launcher", broker=redis_url, set_as_current=False)

    def check() -> bool:
        replies = app.control.ping(timeout=_PONG_SECONDS, pattern=f"{name}@*", matcher="glob", limit=1)
        return any(node.startswith(f"{name}@") for reply in replies or [] for node in reply)

    return check
