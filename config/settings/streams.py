"""The streams process: long polls and server-sent events."""

from config.env import env

# --- Waiting (the streams process) -----------------------------------------------------------------------------------

# Address of the streams process; a job's links `wait` and `events` begin with it. Empty: the links are relative, which is
# right where one address serves both processes. The api itself answers a wait at once.
STREAMS_URL = env.str("STREAMS_URL", default="").rstrip("/")
# Seconds between looks at all watched jobs: the delay that a lost wake-up costs, no longer than a polling client would wait.
STREAMS_POLL_SECONDS = env.float("STREAMS_POLL_SECONDS", default=1.0)
# Seconds between checks of the credentials of open requests, in one statement: how long a revoked key can still listen.
STREAMS_REAUTH_SECONDS = env.float("STREAMS_REAUTH_SECONDS", default=5.0)
# Seconds between keep-alive comments on a quiet stream: shorter than proxies wait before they cut it (30 to 60 s).
SSE_KEEPALIVE_SECONDS = env.float("SSE_KEEPALIVE_SECONDS", default=15.0)
# Seconds that a send may block before the connection is closed: covers the longest pause on a mobile network.
STREAMS_SEND_TIMEOUT_SECONDS = env.float("STREAMS_SEND_TIMEOUT_SECONDS", default=20.0)
# Requests that may wait in one process. Each costs about 16 KiB and a file descriptor; above the limit they get 503.
STREAMS_MAX_WAITS = env.int("STREAMS_MAX_WAITS", default=10_000)
# Threads, each with a database connection, that check credential and job of a new request. A waiting request holds none.
STREAMS_THREADS = env.int("STREAMS_THREADS", default=4)
