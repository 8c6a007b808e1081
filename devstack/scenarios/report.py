"""Scenario: a report of all earlier jobs is downloaded and counted."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from devstack.demo_client import Counts, Result, problems

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient

DAY = timedelta(days=1)


def report(client: DemoClient) -> Result:
    """A report that is requested twice under one key is one file, with a row for each job before it."""
    client.print("(h) A report of all these jobs, downloaded")
    key, before, earlier_jobs = client.new_key("report"), client.charges(), client.all_jobs()
    body = _body()
    first, again = client.post(body, key), client.post(body, key)
    job = client.ended_job(first)
    found = problems(
        (job["state"] == "succeeded", f"the job ended {job['state']}"),
        (len(job["artifacts"]) == 1, f"{len(job['artifacts'])} files"),
    )
    for artifact in job["artifacts"]:
        answer = client.api.get(f"/v1/jobs/{job['id']}/artifacts/{artifact['name']}")
        rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
        client.print(f"    {artifact['name']}: {answer.status}, {len(answer.body)} bytes, {len(rows)} rows")
        client.print(f"    jobs before it: {len(earlier_jobs)}; {_totals(job)}")
        is_complete = sorted(row["job"] for row in rows) == sorted(one["id"] for one in earlier_jobs)
        found += problems((is_complete, f"{len(rows)} rows for {len(earlier_jobs)} jobs"))
    replays = int(first.is_replay) + int(again.is_replay)
    counts = client.count(key, requests=2, replays=replays, charges_before=before)
    return Result("(h) report, rows counted", Counts(2, 1, 0, 1), counts, found)


def _body() -> bytes:
    """Return the request for a report of three days, because the demo may run over midnight."""
    today = datetime.now(UTC).date()
    params = {"format": "csv", "from": str(today - DAY), "to": str(today + DAY)}
    return json.dumps({"operation": "reports.generate", "params": params}).encode()


def _totals(job: dict[str, Any]) -> str:
    totals = (job["result"] or {}).get("totals", [])
    return ", ".join(f"{one['charged']} {one['currency']} charged" for one in totals) or "nothing charged"
