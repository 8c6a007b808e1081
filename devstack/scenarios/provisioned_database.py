"""Scenario: a database is requested twice, used, and dropped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from devstack.demo_client import Counts, Result, problems

if TYPE_CHECKING:
    from devstack.demo_client import DemoClient

CONNECT_SECONDS = 5
SUCCEEDED = "succeeded"


def provisioned_database(client: DemoClient) -> Result:
    """A database and its role are created once, can be used, give access to nothing else, and are gone after the drop."""
    client.print("(g) A PostgreSQL database, provisioned and dropped")
    key, drop_key, before = client.new_key("database"), client.new_key("drop"), client.charges()
    body = _body("resources.provision_database")
    first, again = client.post(body, key), client.post(body, key)
    job = client.ended_job(first)
    found = problems((job["state"] == SUCCEEDED, f"the job ended {job['state']}"))
    if job["state"] == SUCCEEDED:
        dsn = job["result"]["dsn"]
        client.print(
            f"    {job['result']['database']} was created once for two requests under one key; the result has its password"
        )
        client.print(f"    connected to it, {_use(dsn)} rows written and read")
        elsewhere = _connect(make_conninfo(dsn, dbname=client.database_name))
        client.print(f"    its role at Semel's own database: {elsewhere}")
        found += problems((elsewhere == "refused", "its role can connect elsewhere"))
    dropped = client.post(_body("resources.drop_database"), drop_key)
    state = client.final_state(dropped)
    client.print(f"    dropped: the job {state}")
    found += problems((state == SUCCEEDED, f"the drop ended {state}"))
    if job["state"] == SUCCEEDED:
        afterwards = _connect(dsn)
        client.print(f"    its role after the drop: {afterwards}")
        found += problems((afterwards == "refused", "its role can still connect"))
    counts = Counts(
        requests=3,
        jobs=len(client.jobs(key)) + len(client.jobs(drop_key)),
        charges=client.charges() - before,
        replays=sum(answer.is_replay for answer in (first, again, dropped)),
    )
    return Result("(g) database made and dropped", Counts(3, 2, 0, 1), counts, found)


def _body(operation: str) -> bytes:
    return json.dumps({"operation": operation, "params": {"name": "orders"}}).encode()


def _use(dsn: str) -> int:
    """Create and fill a table; return its number of rows."""
    with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as session:
        session.execute("CREATE TABLE orders AS SELECT generate_series(1, 3) AS number")
        [count] = session.execute("SELECT count(*) FROM orders").fetchone() or [0]
        return int(count)


def _connect(dsn: str) -> str:
    try:
        psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError:
        return "refused"
    return "accepted"
