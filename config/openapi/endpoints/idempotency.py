"""What a key stands for, and the policy of the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.query_strings import NoQuery
from config.openapi import examples
from config.openapi.endpoints.table import ALWAYS, PROTECTED, Answer, Endpoint, conditional

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

ENDPOINTS: Table = {
    ("GET", "/v1/idempotency-keys/{key}"): Endpoint(
        id="readIdempotencyKey",
        tag="Idempotency",
        summary="Read what a key stands for",
        description="Of the tenant, in the API key's mode. 404: the key is free.",
        query=NoQuery,
        headers=("If-None-Match",),
        answers=conditional(
            Answer(description="What the key stands for.", schema="IdempotencyKey", example=examples.KEY)
        ),
        problems=(*PROTECTED, "not-found"),
    ),
    ("GET", "/.well-known/idempotency"): Endpoint(
        id="readPolicy",
        tag="Idempotency",
        summary="Read the policy of this deployment, for machines",
        is_public=True,
        headers=("If-None-Match",),
        answers=conditional(Answer(description="The values in force.", schema="Policy")),
        problems=ALWAYS,
    ),
}
