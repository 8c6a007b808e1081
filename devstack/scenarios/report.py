"""A report of all that was played before, downloaded and counted."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from devstack.demo_client import Figures, Row

if TYPE_CHECKING:
    from devstack.demo_client import Stage

DAY = timedelta(days=1)


def report(stage: Stage) -> Row:
    """A report, asked for twice under one key, is one file with a row for each job before it."""
    stage.say("(h) A report of all this, downloaded")
    key, before, made_before = stage.new_key("report"), stage.charges(), stage.all_jobs()
    body = _order()
    first, again = stage.post(body, key), stage.post(body, key)
    job = stage.ended_job(first)
    complaints = [] if job["state"] == "succeeded" else [f"the job ended {job['state']}"]
    for artifact in job["artifacts"]:
        answer = stage.api.get(f"/v1/jobs/{job['id']}/artifacts/{artifact['name']}")
        rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
        stage.say(f"    {artifact['name']}: {answer.status}, {len(answer.body)} bytes, {len(rows)} rows")
        stage.say(f"    jobs before it: {len(made_before)}; {_totals(job)}")
        if sorted(row["job"] for row in rows) != sorted(one["id"] for one in made_before):
            complaints.append(f"{len(rows)} rows for {len(made_before)} jobs")
    if len(job["artifacts"]) != 1:
        complaints.append(f"{len(job['artifacts'])} files")
    replays = int(first.is_replay) + int(again.is_replay)
    figures = stage.count(key, requests=2, replays=replays, charges_before=before)
    return Row("(h) report, rows counted", Figures(2, 1, 0, 1), figures, complaints)


def _order() -> bytes:
    """A report of these days: midnight may come in mid-demo."""
    today = datetime.now(UTC).date()
    params = {"format": "csv", "from": str(today - DAY), "to": str(today + DAY)}
    return json.dumps({"operation": "reports.generate", "params": params}).encode()


def _totals(job: dict[str, Any]) -> str:
    totals = (job["result"] or {}).get("totals", [])
    return ", ".join(f"{one['charged']} {one['currency']} charged" for one in totals) or "nothing charged"
