"""Jobs: attempts, recovery, retention, artifacts."""

from typing import Any

from config.env import BASE_DIR, env
from config.settings.web import API_THREADS

# --- Jobs ------------------------------------------------------------------------------------------------------------

# Operations that clients may start, by the path of their class. Nothing else can be started, whatever is installed.
OPERATIONS = env.list(
    "OPERATIONS",
    default=[
        "operations.payments.charge.ChargePayment",
        "operations.databases.drop.DropDatabase",
        "operations.reports.generate.GenerateReport",
        "operations.databases.provision.ProvisionDatabase",
        "operations.payments.refund.RefundPayment",
        "operations.sleep.Sleep",
    ],
)
# Seconds that an attempt may run without a renewal: three missed heartbeats. Longer than a garbage collection or a failover;
# short enough to free a crashed worker's job within a minute.
LEASE_SECONDS = env.float("LEASE_SECONDS", default=45.0)
# Seconds between renewals: a third of the lease, so that two may fail before the third decides.
HEARTBEAT_SECONDS = env.float("HEARTBEAT_SECONDS", default=15.0)
# Seconds added to an operation's own time limit before its lease is no longer renewed, so that the outcome can be written.
ATTEMPT_MARGIN_SECONDS = env.float("ATTEMPT_MARGIN_SECONDS", default=30.0)
# Seconds that an operation may run after its lease is lost before its process ends itself. Any loop checks sooner.
LOST_LEASE_EXIT_SECONDS = env.float("LOST_LEASE_EXIT_SECONDS", default=10.0)
# Seconds between sweeps for due and expired jobs: the delay that a lost hint costs. A sweep stops after this time and
# leaves the rest to the next one.
SWEEP_SECONDS = env.float("SWEEP_SECONDS", default=5.0)
# Seconds for which a worker continues with the backlog after a hint: long enough that the message costs nothing, short enough
# that it soon looks at queues of a higher priority.
BACKLOG_SECONDS = env.float("BACKLOG_SECONDS", default=1.0)
# Base and maximum of the backoff: a random time between 0 and base x 2^n seconds. An outage of five minutes costs one more
# attempt, not ten.
BACKOFF_BASE_SECONDS = env.float("BACKOFF_BASE_SECONDS", default=2.0)
BACKOFF_MAX_SECONDS = env.float("BACKOFF_MAX_SECONDS", default=300.0)
# Seconds between purges.
PURGE_SECONDS = env.float("PURGE_SECONDS", default=60.0)
# Rows that one transaction of a sweep or purge touches: short locks, little replication lag.
BATCH_ROWS = 500
# Seconds that one purge may take. The sweep waits for it, because the maintenance worker runs both.
PURGE_BUDGET_SECONDS = env.float("PURGE_BUDGET_SECONDS", default=10.0)
# Seconds that an ended job is kept: one month, which is also the longest life of a key that can refer to it.
JOB_RETENTION_SECONDS = env.int("JOB_RETENTION_SECONDS", default=30 * 24 * 3600)
# Seconds between batches of a bulk action.
BULK_SECONDS = env.float("BULK_SECONDS", default=5.0)
# Seconds that one batch may take. The sweep waits for it.
BULK_BUDGET_SECONDS = env.float("BULK_BUDGET_SECONDS", default=2.0)
# Seconds that a job may be due before operators see it as stuck. A worker starts in less.
OVERDUE_JOB_SECONDS = env.int("OVERDUE_JOB_SECONDS", default=300)
# Seconds between self-audits: a violation is reported within minutes. A late audit does no harm.
SELFAUDIT_SECONDS = env.float("SELFAUDIT_SECONDS", default=300.0)
# Seconds that one self-audit may take. The sweep waits for it.
SELFAUDIT_BUDGET_SECONDS = env.float("SELFAUDIT_BUDGET_SECONDS", default=5.0)
# Seconds that it looks back: a dozen audits see each accepted or ended job, so that one may be missed.
SELFAUDIT_WINDOW_SECONDS = env.int("SELFAUDIT_WINDOW_SECONDS", default=3_600)
# Seconds that a purge may lag before the lag is a violation: sixty purges, far more than an hour's maintenance needs.
SELFAUDIT_LAG_SECONDS = env.int("SELFAUDIT_LAG_SECONDS", default=3_600)
# Jobs of one tenant and mode that may be queued at once. 0: no limit, because a queue exists to hold a backlog.
QUEUED_JOBS_MAX = env.int("QUEUED_JOBS_MAX", default=0)
# Seconds that run_at may lie in the future: as long as ended jobs are kept. Plan later work in a calendar that can be changed.
RUN_AT_MAX_SECONDS = env.int("RUN_AT_MAX_SECONDS", default=30 * 24 * 3600)
# Maximum bytes of a job's result. Use an artifact for a file.
RESULT_MAX_BYTES = env.int("RESULT_MAX_BYTES", default=256 * 1024)
# Seconds between reads of recent job durations, for `Retry-After`: one cheap statement per process, and none while no client
# polls. Short enough for a client that polls a long job.
DURATIONS_REFRESH_SECONDS = env.float("DURATIONS_REFRESH_SECONDS", default=5.0)

# --- Effects ---------------------------------------------------------------------------------------------------------

# Seconds of the lease that must remain beyond an effect's time-out when its call is sent: covers clocks and pauses.
EFFECT_MARGIN_SECONDS = 2.0
# Seconds that recording an effect's start may take. If the lease were not longer than all three, no effect could be sent.
EFFECT_BEGIN_SECONDS = 1.0
# Seconds that a downstream call may take in all, unless its effect sets another limit: shorter than a lease.
EFFECT_TIMEOUT_SECONDS = env.float("EFFECT_TIMEOUT_SECONDS", default=30.0)
# Seconds after that time-out in which a cut request may still arrive at the downstream.
EFFECT_RECONCILE_AFTER_SECONDS = env.float("EFFECT_RECONCILE_AFTER_SECONDS", default=60.0)
# Seconds before the end of a downstream's key window in which a call is not repeated: the two clocks differ.
KEY_WINDOW_MARGIN_SECONDS = 60.0

# --- Artifacts -------------------------------------------------------------------------------------------------------

# Folder of the files that jobs produce. Api, streams, worker and maintenance must share it.
ARTIFACTS_ROOT = env.str("ARTIFACTS_ROOT", default=str(BASE_DIR / "artifacts"))
# Class of another Django storage. It must read parts of a file without loading the whole, and `save` must return only when the
# file is durable. For S3, with requirements-s3.txt: ARTIFACTS_STORAGE=jobs.artifact_bucket.ArtifactBucket
# ARTIFACTS_STORAGE_OPTIONS={"bucket_name": "semel"}. Other options, such as "endpoint_url", "region_name", "access_key" and
# "secret_key", are those of django-storages' S3Storage.
ARTIFACTS_STORAGE = env.str("ARTIFACTS_STORAGE", default="")
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "artifacts": {
        "BACKEND": ARTIFACTS_STORAGE,
        # Options of that storage, as JSON.
        "OPTIONS": env.json("ARTIFACTS_STORAGE_OPTIONS", default={}),
    }
    if ARTIFACTS_STORAGE
    else {
        "BACKEND": "jobs.artifact_storage.ArtifactFolder",
        # Clients read artifacts through the api only.
        "OPTIONS": {"location": ARTIFACTS_ROOT, "file_permissions_mode": 0o600, "directory_permissions_mode": 0o700},
    },
}
# Maximum artifacts of one job: its document lists them all.
ARTIFACTS_MAX = env.int("ARTIFACTS_MAX", default=100)
# Seconds after which an unpublished file is deleted: longer than any attempt runs, so that none still writes it.
ORPHAN_FILE_TTL_SECONDS = env.int("ORPHAN_FILE_TTL_SECONDS", default=24 * 3600)
# Files that one process may send at once: half of its threads, so that slow readers cannot starve other requests.
DOWNLOADS_MAX = env.int("DOWNLOADS_MAX", default=max(1, API_THREADS // 2))

# --- Tests -----------------------------------------------------------------------------------------------------------

# Where this process dies, in tests: <name>:<n>:kill|stop|raise|hang (foundation/fault_points.py).
FAULT_POINT = env.str("FAULT_POINT", default="")
