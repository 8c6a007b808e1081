"""The admin's pages. A page changes a job through a service, never through a form over its columns."""

from operators.admin import (
    api_keys_page,
    audit_page,
    bulk_progress,
    job_admin,
    keys_page,
    pauses_page,
    tenants_page,
    violation_page,
)

__all__ = [
    "api_keys_page",
    "audit_page",
    "bulk_progress",
    "job_admin",
    "keys_page",
    "pauses_page",
    "tenants_page",
    "violation_page",
]
