"""The SQL of jobs: every lock, guard and RETURNING. Lock order everywhere: record, job, attempt, step, event."""
