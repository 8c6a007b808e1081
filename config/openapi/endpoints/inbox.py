"""Where others send us events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.query_strings import NoQuery
from config.openapi.endpoints.table import ALWAYS, BODY, Answer, Endpoint

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

ENDPOINTS: Table = {
    ("POST", "/v1/inbox/{source}"): Endpoint(
        id="receiveEvent",
        tag="Inbox",
        summary="Deliver an event",
        description=(
            "For providers, signed as Standard Webhooks has it with the secret of the source. Deliver each event until it is "
            "answered with 2xx, in any order, as often as you like: it is acted upon once. What it says of a job of ours stands "
            "in that job's history, and resolves one that is `unknown` for want of it."
        ),
        is_public=True,
        query=NoQuery,
        headers=("webhook-id", "webhook-timestamp", "webhook-signature"),
        body_schema={
            "type": "object",
            "properties": {"type": {"type": "string"}, "data": {"type": "object"}},
            "required": ["type", "data"],
        },
        body_example={
            "type": "charge.succeeded",
            "data": {
                "id": "ch_0d8ab0d3d36a29e678d1e17b",
                "status": "succeeded",
                "amount": 1999,
                "currency": "usd",
                "request": {
                    "idempotency_key": "semel-0199f3a4-7a3c-7000-8000-000000000000-charge-1",
                    "job": "0199f3a4-7a3c-7000-8000-000000000000",
                },
            },
        },
        answers={
            200: Answer(
                description="The event has been acted upon, by this delivery or an earlier one.",
                schema="Receipt",
                example={"id": "evt_1", "first": True},
            )
        },
        problems=(*ALWAYS, *BODY, "not-found", "unauthenticated", "not-acceptable", "service-unavailable"),
    ),
}
