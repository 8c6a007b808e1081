"""DBOS behind FastAPI: one process accepts requests and runs jobs."""

from __future__ import annotations

from devstack.services import answers
from tests.bench.contestants.contestant import Contestant
from tests.bench.yardsticks import yardsticks_python


class Dbos(Contestant):
    """uvicorn. Its CPU time counts as the api's: the process does both."""

    name = "dbos"
    title = "DBOS"
    count_finished = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"

    def start(self) -> None:
        self._start(role="")

    def stop_workers(self) -> None:
        self.host.end("api")
        self._start(role="accept")

    def start_workers(self) -> None:
        self.host.end("api")
        self._start(role="")

    def _start(self, *, role: str) -> None:
        env = {
            "BENCH_DATABASE_URL": self.addresses.database,
            "BENCH_CALL_URL": self.addresses.calls,
            "BENCH_ROLE": role,
        }
        options = ["--port", str(self.port), "--log-level", "warning", "tests.bench.peers.dbos_service:app"]
        self.host.start_python("api", "-m", "uvicorn", *options, python=yardsticks_python(), env=self.host.env | env)
        self.host.supervisor.wait_for({"api": answers(self.port, "/ready")})
