"""Every endpoint and what it can answer, in a file for each noun: where to add one when an address is added.

A test holds it to the addresses that exist, and to the catalogue of problems.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.openapi.endpoints import artifacts, changes, idempotency, inbox, jobs, operations, service

if TYPE_CHECKING:
    from config.openapi.endpoints.table import Table

ENDPOINTS: Table = {
    **jobs.ENDPOINTS,
    **artifacts.ENDPOINTS,
    **changes.ENDPOINTS,
    **operations.ENDPOINTS,
    **idempotency.ENDPOINTS,
    **inbox.ENDPOINTS,
    **service.ENDPOINTS,
}

# What no endpoint can answer: it stands for a method or an address that none of them has.
ELSEWHERE = ("method-not-allowed",)
