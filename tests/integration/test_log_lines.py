"""Log lines of a process: whole, without secrets, and never blocking its work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETUP = "import django, logging, structlog; django.setup(); log = structlog.get_logger('workers.test')\n"
SECRET = "a-very-secret-value"


def process(code, **env):
    """Start a process that sets up Django and runs this code; its standard error is a pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", SETUP + code],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "SEMEL_PROCESS": "worker", **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(code, **env):
    """Return what the code logs."""
    running = process(code, **env)
    _out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    return [json.loads(line) for line in err.splitlines()]


def test_a_reader_that_stops_reading_costs_lines_but_no_time():
    code = """
for number in range(20_000):
    log.info("line", number=number, filling="x" * 200)
print("done", flush=True)
import sys; sys.stdin.read()  # until there is room again
log.info("afterwards")
"""
    running = process(code)
    # Standard error is not read, but the process finishes its work.
    assert running.stdout.readline() == "done\n"
    first = os.read(running.stderr.fileno(), 1 << 20).decode()
    assert 0 < first.count("\n") < 20_000
    _out, err = running.communicate(timeout=60)
    logged = [json.loads(line) for line in (first + err).splitlines()]
    numbers = [line["number"] for line in logged if line["event"] == "line"]
    assert numbers == sorted(numbers)
    dropped = next(line for line in logged if line["event"] == "log.dropped")
    assert len(numbers) + dropped["lines"] == 20_000
    assert logged[-1]["event"] == "afterwards"


def test_an_event_that_cannot_be_logged_costs_only_its_line():
    logged = lines("""
class Broken:
    def __str__(self): raise RuntimeError("no")
    __repr__ = __str__
    __hash__ = None
log.info("object", thing=Broken(), bad={Broken: 1}, surrogate="\\ud800", number=float("nan"), big=10**400)
logging.getLogger("workers.test").error("%d", "not a number")
log.info("after")
""")
    assert [line["event"] for line in logged][-1] == "after"
    assert len(logged) == 3


def test_a_time_limit_during_logging_reaches_the_attempt():
    logged = lines("""
from billiard.exceptions import SoftTimeLimitExceeded
def interrupt(*_): raise SoftTimeLimitExceeded
structlog.get_config()["processors"].insert(0, interrupt)
try:
    log.info("never")
except SoftTimeLimitExceeded:
    structlog.get_config()["processors"].pop(0)
    log.info("interrupted")
""")
    assert [line["event"] for line in logged] == ["interrupted"]


TEXTS = (
    "connecting to postgres://semel:" + SECRET + "@db:5432/semel",
    "redis://:" + SECRET + "@broker:6379/0 is away",
    "Authorization: Bearer " + SECRET,
    "key test_0123456789abcdef_" + SECRET,
    "signed with " + SECRET,
)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_removed_from_every_part_of_a_line(log_format):
    code = f"""
for text in {TEXTS!r}:
    log.warning("texts", text=text, nested={{"list": [text]}})
    logging.getLogger("kombu").warning("Text: %s", text)
    log.warning(text)
    log.warning("next")
"""
    running = process(code, SECRET_KEY=SECRET * 3, PAYMENT_PROVIDER_KEY=SECRET, LOG_FORMAT=log_format)
    _out, err = running.communicate(timeout=60)
    assert SECRET not in err
    of_each = re.split(r"^.*\bnext\b.*\n", err, flags=re.MULTILINE)
    assert [text.count("[redacted]") for text in of_each] == [4] * len(TEXTS) + [0], err


def test_forbidden_members_are_hidden():
    (line,) = lines(
        "log.info('oops', params={'a': 1}, result='r', headers=['h'], idempotency_key='my-key', job={'payload': 1})"
    )
    assert (line["params"], line["result"], line["headers"]) == ("[redacted]",) * 3
    assert line["job"] == {"payload": "[redacted]"}
    assert "my-key" not in json.dumps(line)
    assert len(line["idempotency_key_digest"]) == 16


def test_an_uncaught_exception_is_logged_without_its_text():
    code = f"""
import threading
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
raise ValueError({SECRET!r})
"""
    running = process(code)
    _out, err = running.communicate(timeout=60)
    logged = [json.loads(line) for line in err.splitlines()]
    assert [line["exception"]["type"] for line in logged] == ["builtins.ZeroDivisionError", "builtins.ValueError"]
    assert SECRET not in err


def test_console_lines_are_for_people():
    running = process("log.info('job.settled', job_id='17')", LOG_FORMAT="console")
    _out, err = running.communicate(timeout=60)
    assert "job.settled" in err
    assert "job_id" in err
    with pytest.raises(json.JSONDecodeError):
        json.loads(err)


def test_an_unknown_log_format_is_refused():
    running = process("", LOG_FORMAT="xml")
    _out, err = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "LOG_FORMAT must be one of json, console" in err
