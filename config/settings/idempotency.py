"""Idempotency keys and consumed messages."""

from config.env import env
from config.settings.web import API_THREADS

# --- Idempotency -----------------------------------------------------------------------------------------------------

IDEMPOTENCY_SCOPE = "accounts.authentication.scope_of"  # the scope of a request's key: its tenant and mode
# "lenient": a quoted key as in the IETF draft, or a bare key as most clients send it. "strict": the quoted form only.
IDEMPOTENCY_KEY_SYNTAX = env.str("IDEMPOTENCY_KEY_SYNTAX", default="lenient")
# Status for another request under a used key: 409, because it conflicts with the first; 422 follows the IETF draft.
IDEMPOTENCY_MISMATCH_STATUS = env.int("IDEMPOTENCY_MISMATCH_STATUS", default=409)
# Seconds that a key is kept: longer than the retry schedules of known clients (Stripe also keeps 24 h).
IDEMPOTENCY_TTL_SECONDS = env.int("IDEMPOTENCY_TTL_SECONDS", default=24 * 3600)
# Seconds between writes of the replay counts of a process. Reading them more often has no use.
IDEMPOTENCY_REPLAY_FLUSH_SECONDS = env.float("IDEMPOTENCY_REPLAY_FLUSH_SECONDS", default=5.0)
# Maximum bytes of a stored response body. Of a larger one only status and headers are stored; its work still happens once.
IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES = env.int("IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES", default=1024 * 1024)
# Seconds that a duplicate waits in all for the first request, which needs milliseconds, or a second on a stalled disk.
IDEMPOTENCY_WAIT_SECONDS = env.float("IDEMPOTENCY_WAIT_SECONDS", default=2.0)
# Duplicates of one process that may wait at once: a quarter of its threads, so that they cannot starve first requests.
IDEMPOTENCY_WAITING_DUPLICATES = max(1, API_THREADS // 4)
# Secrets of the fingerprints, "kid:secret", newest first. Keep an old one until the last record made with it is purged.
IDEMPOTENCY_FINGERPRINT_KEYS = env.list("IDEMPOTENCY_FINGERPRINT_KEYS")
# Seconds that a consumed message is remembered: longer than known providers redeliver one (Stripe: three days).
INBOX_RETENTION_SECONDS = env.int("INBOX_RETENTION_SECONDS", default=30 * 24 * 3600)
