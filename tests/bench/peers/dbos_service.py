"""A FastAPI service on DBOS Transact: the workflow's id is the key, and its queue runs one step.

With BENCH_ROLE=accept it takes requests and runs nothing, so that a backlog can be made.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI, Header, status

from tests.bench.slow_call import call_slow_service

QUEUE = "work"
CONCURRENCY = 64  # workflows at once in this process
POLL_SECONDS = 0.05

DBOS(
    config={
        "name": "yardstick",
        "system_database_url": os.environ["BENCH_DATABASE_URL"].replace("postgres://", "postgresql://", 1),
        "run_admin_server": False,
        "log_level": "ERROR",
    }
)


@DBOS.step()
def work(operation: str, params: dict[str, Any]) -> dict[str, Any]:
    """Do the job's work; its result is recorded."""
    if operation == "call":
        call_slow_service(os.environ["BENCH_CALL_URL"])
    return {"amount": params["amount"]}


@DBOS.workflow()
def job(operation: str, params: dict[str, Any]) -> dict[str, Any]:
    """Run the one step."""
    return work(operation, params)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Start DBOS with the server."""
    if os.environ.get("BENCH_ROLE") == "accept":
        DBOS.listen_queues([])
    DBOS.launch()
    await DBOS.register_queue_async(QUEUE, worker_concurrency=CONCURRENCY, polling_interval_sec=POLL_SECONDS)
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/jobs", status_code=status.HTTP_202_ACCEPTED)
def accept(body: dict[str, Any], idempotency_key: Annotated[str, Header()]) -> dict[str, str]:
    """Enqueue the workflow; a known id returns the workflow that has it."""
    with SetWorkflowID(idempotency_key):
        handle = DBOS.enqueue_workflow(QUEUE, job, body["operation"], body["params"])
    return {"id": handle.workflow_id, "status": "queued"}


@app.get("/ready")
async def ready() -> None:
    """Answer once the process serves."""
