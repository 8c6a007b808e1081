"""A database is asked for twice, used, and dropped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

from devstack.demo_client import Figures, Row

if TYPE_CHECKING:
    from devstack.demo_client import Stage

CONNECT_SECONDS = 5
SUCCEEDED = "succeeded"


def provisioned_database(stage: Stage) -> Row:
    """A database and its role are made once, hold what is put there, lead nowhere else, and are gone when they are dropped."""
    stage.say("(g) A PostgreSQL database, provisioned and dropped")
    key, drop_key, before = stage.new_key("database"), stage.new_key("drop"), stage.charges()
    complaints = []
    body = _order("resources.provision_database")
    first, again = stage.post(body, key), stage.post(body, key)
    job = stage.ended_job(first)
    if job["state"] == SUCCEEDED:
        dsn = job["result"]["dsn"]
        stage.say(
            f"    {job['result']['database']} is there, after two requests under one key; its password is in the result"
        )
        stage.say(f"    connected to it, {_use(dsn)} rows written and read")
        others = make_conninfo(dsn, dbname=stage.database_name)
        stage.say(f"    its role at Semel's own database: {_knock(others)}")
        complaints += [] if _knock(others) == "refused" else ["its role can connect elsewhere"]
    else:
        complaints.append(f"the job ended {job['state']}")
    dropped = stage.post(_order("resources.drop_database"), drop_key)
    state = stage.final_state(dropped)
    stage.say(f"    dropped: the job {state}")
    complaints += [] if state == SUCCEEDED else [f"the drop ended {state}"]
    if job["state"] == SUCCEEDED:
        stage.say(f"    its role at that address: {_knock(dsn)}")
        complaints += [] if _knock(dsn) == "refused" else ["it can still be connected to"]
    counted = Figures(
        requests=3,
        jobs=len(stage.jobs(key)) + len(stage.jobs(drop_key)),
        charges=stage.charges() - before,
        replays=int(first.is_replay) + int(again.is_replay) + int(dropped.is_replay),
    )
    return Row("(g) database made and dropped", Figures(3, 2, 0, 1), counted, complaints)


def _order(operation: str) -> bytes:
    return json.dumps({"operation": operation, "params": {"name": "orders"}}).encode()


def _use(dsn: str) -> int:
    """How many rows a table there holds that was just made and filled."""
    with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as session:
        session.execute("CREATE TABLE orders AS SELECT generate_series(1, 3) AS number")
        [count] = session.execute("SELECT count(*) FROM orders").fetchone() or [0]
        return int(count)


def _knock(address: str) -> str:
    """Whether that address lets one in."""
    try:
        psycopg.connect(address, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError:
        return "refused"
    return "let in"
