"""The DBOS peer: FastAPI and DBOS Transact in one process; the workflow's id is the idempotency key, and a queue runs it."""

import os
import sys
from pathlib import Path

from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse

sys.path.insert(0, str(Path(__file__).parent))
from call import call

app = FastAPI()
DBOS(
    config={
        "name": "bench",
        "system_database_url": os.environ["BENCH_DATABASE_URL"],
        "run_admin_server": False,
        "log_level": "ERROR",
    }
)


@DBOS.step()
def perform(operation: str, amount: int) -> dict[str, int]:
    return {"status": call()} if operation == "bench.call" else {"charged": amount}


@DBOS.workflow()
def run(operation: str, params: dict) -> dict[str, int]:
    return perform(operation, params["amount"])


@app.post("/v1/jobs")
def submit(body: dict, idempotency_key: str = Header()) -> JSONResponse:
    with SetWorkflowID(idempotency_key):
        handle = DBOS.enqueue_workflow("jobs", run, body["operation"], body["params"])
    return JSONResponse({"id": handle.workflow_id, "state": "queued"}, status_code=202)


@app.on_event("startup")
async def launch() -> None:
    DBOS.launch()
    await DBOS.register_queue_async("jobs", worker_concurrency=64, polling_interval_sec=0.05)
