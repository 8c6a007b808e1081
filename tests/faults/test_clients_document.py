"""Every command in docs/how-to/clients.md runs against a stack and prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from api.problem_catalogue import PROBLEMS
from tests.support.stack import running_stack

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "clients.md").read_text(encoding="utf-8")
MARK = "--- next ---"
ANYTHING = "…"  # in the page's output: what differs from run to run


def commands():
    """Each command of the page's console blocks, with the output that stands below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        for text in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = text.splitlines()
            last = next(number for number, line in enumerate(lines) if not line.endswith("\\"))
            found.append(("\n".join(lines[: last + 1]), lines[last + 1 :]))
    return found


def test_every_command_does_what_the_page_says(tmp_path, api_key):
    page = commands()
    script = "\n".join(f"{command}\necho '{MARK}'" for command, _ in page)
    with running_stack(tmp_path) as stack:
        env = {**os.environ, "URL": stack.start_api(), "KEY": api_key, "no_proxy": "127.0.0.1"}
        stack.start_workers("worker")
        ran = subprocess.run(["bash"], input=script, env=env, text=True, capture_output=True, timeout=120, check=False)
        assert ran.stderr == "", stack.logs()
    outputs = ran.stdout.replace("\r", "").split(f"{MARK}\n")[:-1]
    for (command, expected), output in zip(page, outputs, strict=True):
        pattern = ".*".join(re.escape(part) for part in "\n".join([*expected, ""]).split(ANYTHING))
        assert re.fullmatch(pattern if expected else "", output), f"{command}\n{output}"
    assert len(page) > 10


def test_the_page_explains_every_problem_of_v1():
    unspoken = {slug for slug, one in PROBLEMS.items() if f"`{slug}`" not in PAGE and not (one.status or 0) >= 500}
    # All of them are mended alike, by what their own page says: the row of the 4xx.
    mended = {slug for slug in unspoken if PROBLEMS[slug].status in (400, 403, 404, 405, 406, 413, 415, 416, 431)}
    assert unspoken == mended
