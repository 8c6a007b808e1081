"""What work there is to ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.query_strings import NoQuery
from config.openapi import examples
from config.openapi.endpoints.table import PROTECTED, Answer, Endpoint, conditional

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

ENDPOINTS: Table = {
    ("GET", "/v1/operations"): Endpoint(
        id="listOperations",
        tag="Operations",
        summary="List the kinds of work",
        description=(
            "Each with JSON Schemas of its params and its result, its limits and how it is retried, for the version that a new "
            "job gets. The whole list: it changes with a deployment only."
        ),
        headers=("If-None-Match",),
        query=NoQuery,
        answers=conditional(
            Answer(description="Every operation.", schema="OperationList", example=examples.OPERATION_LIST)
        ),
        problems=PROTECTED,
    ),
}
