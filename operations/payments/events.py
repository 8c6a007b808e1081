"""What a payment provider tells us afterwards: it stands in the job's history, and settles what was in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from jobs.operations import job_of_key
from jobs.provider_events import ProviderEvent, record_provider_event
from operations.payments.provider_answers import read_charge, read_refund

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

log = structlog.get_logger(__name__)

# What each kind of event says took place, as the gateway would have read it from an answer.
_READERS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "charge.succeeded": read_charge,
    "charge.refunded": read_refund,
}


def handle_event(source: str, message_id: str, event: Mapping[str, Any]) -> None:
    """The event is evidence on the job that asked for what it tells of. What it tells of no job of ours is passed over.

    Called inside the transaction that consumes the event, and raises nothing for what a provider may say: a delivery that
    is refused comes again, and would say the same.
    """
    read = _READERS.get(event["type"])
    key, job_id = _request_of(event["data"])
    if read is None or job_id is None or key is None:
        log.info("inbox.passed_over", source=source, message_id=message_id, type=event["type"])
        return
    try:
        result = read(event["data"])
    except ValueError as error:
        log.warning("inbox.unreadable", source=source, message_id=message_id, error=str(error))
        return
    record_provider_event(
        ProviderEvent(
            job_id=job_id, source=source, message_id=message_id, type=event["type"], key=key, result=result
        )
    )


def _request_of(data: Mapping[str, Any]) -> tuple[str | None, UUID | None]:
    """The key of the request that brought it about, and the job that the key names; the provider may say so in either place."""
    request = data.get("request")
    key = request.get("idempotency_key") if isinstance(request, dict) else data.get("idempotency_key")
    return (key, job_of_key(key)) if isinstance(key, str) else (None, None)
