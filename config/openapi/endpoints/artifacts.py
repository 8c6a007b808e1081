"""Downloading what a job made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.query_strings import NoQuery
from config.openapi.endpoints.table import PROTECTED, Answer, Endpoint

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

_FILE = {"*/*": {"description": "The bytes, under the artifact's own content type."}}
_KEPT = ("ETag-Strong", "Cache-Control")
_SENT = (*_KEPT, "Accept-Ranges", "Content-Disposition", "Content-Security-Policy")

ENDPOINTS: Table = {
    ("GET", "/v1/jobs/{job_id}/artifacts/{name}"): Endpoint(
        id="downloadArtifact",
        tag="Jobs",
        summary="Download a file that the job made",
        description=(
            "Its address is the `url` of one of the job's `artifacts`. It never changes: resume a download with `Range` and, as "
            "`If-Range`, the `ETag` of its beginning. One range is served; for several the whole is sent. 404 also once it was "
            "kept for as long as its operation says; 410 once the job's payload was erased."
        ),
        headers=("Range", "If-Range", "If-None-Match-Strong"),
        query=NoQuery,
        answers={
            200: Answer(description="The whole file.", other=_FILE, headers=_SENT),
            206: Answer(
                description="The part that was asked for.", other=_FILE, headers=(*_SENT, "Content-Range")
            ),
            304: Answer(description="The client has it already.", headers=_KEPT),
        },
        problems=(
            *(slug for slug in PROTECTED if slug != "not-acceptable"),
            "not-found",
            "payload-erased",
            "range-not-satisfiable",
        ),
    ),
}
