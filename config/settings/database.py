"""PostgreSQL: connections, time-outs and session options."""

import sys

from config.env import PROCESS, env, kind_of_process
from foundation.processes import Process

# The name of this process in logs and health checks.
PROCESS_KIND = kind_of_process(sys.argv)

# --- PostgreSQL ------------------------------------------------------------------------------------------------------

# Milliseconds that a statement may run, may wait for a lock, and that a transaction may be idle: short where a client waits,
# long where a job works, no limit for migrations.
POSTGRES_TIMEOUTS_MS = {
    Process.API: (5_000, 2_000, 10_000),
    Process.STREAMS: (5_000, 2_000, 10_000),
    Process.WORKER: (60_000, 10_000, 60_000),
    Process.MANAGE: (0, 0, 0),
}
# Session options of each kind of process.
POSTGRES_SESSION = {
    process: (
        f"-c statement_timeout={statement} -c lock_timeout={lock} -c idle_in_transaction_session_timeout={idle} "
        # The protocol needs it: under REPEATABLE READ a racing duplicate would fail with 40001.
        "-c default_transaction_isolation=read\\ committed"
    )
    for process, (statement, lock, idle) in POSTGRES_TIMEOUTS_MS.items()
}
_STATEMENT_TIMEOUT_MS = POSTGRES_TIMEOUTS_MS[PROCESS][0]

# Seconds beyond the statement time-out that the client waits for an answer: a frozen server sends none.
_ANSWER_SLACK_SECONDS = 2.0

# Prepare the hot statements: PostgreSQL then plans each once a connection, which halves its work. Set false behind a PgBouncer
# older than 1.21 in transaction mode: it may send a prepared statement to a connection that does not know it.
POSTGRES_PREPARE = env.bool("POSTGRES_PREPARE", default=True)

# The database of all jobs and keys, "postgres://user:password@host:port/name": a primary, never a replica.
DATABASES = {
    "default": {
        **env.db("DATABASE_URL"),
        "ENGINE": "config.patches.postgresql",
        "ATOMIC_REQUESTS": False,
        # A connection lives as long as its thread, because opening one costs more than a whole request. Not under ASGI: there
        # each request has a thread of its own, and a kept connection would never be used again.
        "CONN_MAX_AGE": 0 if PROCESS is Process.STREAMS else None,
        # Look at the connection before each request, so that no request fails after a database restart. Costs no statement
        # (config/patches/postgresql).
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": True,  # PgBouncer in transaction mode
        "OPTIONS": {
            "connect_timeout": 3,  # seconds
            # Seconds; also for the health check of a kept connection.
            "answer_seconds": _STATEMENT_TIMEOUT_MS / 1_000 + _ANSWER_SLACK_SECONDS if _STATEMENT_TIMEOUT_MS else None,
            # Detect a cut network within seconds: the first option while sending, the others while waiting for an answer.
            "tcp_user_timeout": 10_000,  # milliseconds
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "application_name": f"semel-{PROCESS}",
            "options": POSTGRES_SESSION[PROCESS],
            "prepare_threshold": 0 if POSTGRES_PREPARE else None,
        },
    }
}
