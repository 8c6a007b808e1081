"""What stands in the description as an example; a test checks each against its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB_ID = "0199f3a4-7a3c-7000-8000-000000000000"
_SELF = f"/v1/jobs/{JOB_ID}"
_CREATED_AT = "2026-11-22T01:02:03.456Z"

SUBMISSION: Mapping[str, Any] = {
    "operation": "payments.charge",
    "params": {"amount": 1999, "currency": "usd", "source": "tok_visa"},
    "metadata": {"order": "1001"},
}

JOB: Mapping[str, Any] = {
    "id": JOB_ID,
    "object": "job",
    "operation": SUBMISSION["operation"],
    "state": "queued",
    "params": SUBMISSION["params"],
    "metadata": SUBMISSION["metadata"],
    "attempt": 0,
    "attempts_left": 5,
    "progress": None,
    "result": None,
    "error": None,
    "priority": "default",
    "created_at": _CREATED_AT,
    "run_at": _CREATED_AT,
    "started_at": None,
    "finished_at": None,
    "deadline": None,
    "cancel_requested_at": None,
    "concurrency_key": None,
    "idempotency_key": "order-1001",
    "artifacts": [],
    "effects": [],
    "links": {"self": _SELF, "events": f"{_SELF}/events", "cancel": f"{_SELF}/cancel"},
}

JOB_PAGE: Mapping[str, Any] = {"data": [JOB], "next_cursor": None}

EVENT_LIST: Mapping[str, Any] = {
    "data": [{"seq": 1, "type": "submit", "attempt": 0, "data": {}, "created_at": _CREATED_AT}],
    "next_after": None,
}

EVENT_STREAM = f"""retry: 2000

id: 1
event: submit
data: {{"seq":1,"type":"submit","attempt":0,"data":{{}},"created_at":"{_CREATED_AT}"}}

:

id: 2
event: claim
data: {{"seq":2,"type":"claim","attempt":1,"data":{{}},"created_at":"{_CREATED_AT}"}}

"""

OPERATION_LIST: Mapping[str, Any] = {
    "data": [
        {
            "object": "operation",
            "name": SUBMISSION["operation"],
            "version": 1,
            "versions": [1],
            "description": "Charge a payment.",
            "params": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {"amount": {"type": "integer", "minimum": 1}},
                "required": ["amount"],
                "additionalProperties": False,
            },
            "result": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {"charge_id": {"type": "string"}},
                "required": ["charge_id"],
            },
            "limits": {
                "timeout_seconds": 60,
                "max_body_bytes": 262_144,
                "max_result_bytes": 262_144,
                "max_run_at_seconds": 2_592_000,
            },
            "retry_policy": {
                "max_attempts": 5,
                "backoff": {"base_seconds": 2.0, "max_seconds": 300.0, "jitter": "full"},
                "lease_seconds": 45.0,
            },
        }
    ]
}

RESOLUTION: Mapping[str, Any] = {
    "step": "charge",
    "verdict": "done",
    "result": {"id": "ch_1"},
    "then": "succeed",
    "note": "Seen in the provider's dashboard.",
}

KEY: Mapping[str, Any] = {
    "object": "idempotency_key",
    "key": "order-1001",
    "method": "POST",
    "path": "/v1/jobs",
    "status": 202,
    "first_seen_at": _CREATED_AT,
    "last_seen_at": _CREATED_AT,
    "replays": 0,
    "expires_at": "2026-11-23T01:02:03.456Z",
    "fingerprint_version": 1,
    "payload_erased_at": None,
    "resource": _SELF,
    "resource_state": "queued",
}
