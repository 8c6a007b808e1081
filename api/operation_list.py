"""`/v1/operations`: the operations of this deployment, described for machines."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request

from api.base_view import ApiView
from api.conditional_requests import conditional
from api.forms import require_no_query
from api.json_schema import DIALECT, schema_of_params, schema_of_result
from jobs.registry import current_operation, operations

if TYPE_CHECKING:
    from jobs.operations import Operation

# The list changes with a deployment at most.
_CACHED = {"Cache-Control": "private, max-age=300"}


class OperationsView(ApiView):
    """List the operations."""

    def get(self, request: Request) -> HttpResponse:
        """Return every operation in the version that a new job gets."""
        require_no_query(request)
        names = sorted({name for name, _ in operations()})
        return conditional(request, {"data": [_document(current_operation(name)) for name in names]}, _CACHED)


def _document(operation: Operation) -> dict[str, Any]:
    return {
        "object": "operation",
        "name": operation.name,
        "version": operation.version,
        # All versions that existing jobs may have.
        "versions": sorted(version for name, version in operations() if name == operation.name),
        "description": inspect.getdoc(type(operation)) or "",
        "params": schema_of_params(operation.params),
        "result": _result(operation),
        "io_bound": operation.io_bound,
        "limits": {
            "timeout_seconds": operation.timeout_seconds,
            "max_body_bytes": settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
            "max_result_bytes": settings.RESULT_MAX_BYTES,
            "max_run_at_seconds": settings.RUN_AT_MAX_SECONDS,
        },
        "retry_policy": {
            "max_attempts": operation.max_attempts,
            "backoff": {
                "base_seconds": settings.BACKOFF_BASE_SECONDS,
                "max_seconds": settings.BACKOFF_MAX_SECONDS,
                "jitter": "full",
            },
            # The job of a dead worker is retried after this time.
            "lease_seconds": settings.LEASE_SECONDS,
        },
    }


def _result(operation: Operation) -> Mapping[str, Any]:
    """Return the schema of the result; any value if the operation defines none."""
    if isinstance(operation.result, type):
        return schema_of_result(operation.result)
    return {"$schema": DIALECT, **(operation.result or {})}
