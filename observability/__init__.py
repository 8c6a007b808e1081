"""Logs, metrics, traces, health checks and the doctor. Other packages only send signals, and import none of this."""
