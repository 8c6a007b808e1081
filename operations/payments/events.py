"""Events that a payment provider sends later: they enter the job's history and settle an unknown outcome."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from jobs.operations import job_of_key
from jobs.provider_events import ProviderEvent, record_provider_event
from operations.payments.provider_responses import read_charge, read_refund

log = structlog.get_logger(__name__)

# How the data of each event type is read: as the gateway reads the same document in a response.
_READERS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "charge.succeeded": read_charge,
    "charge.refunded": read_refund,
}


def handle_event(source: str, message_id: str, event: Mapping[str, Any]) -> None:
    """Record the event with the job whose effect caused it; ignore it if that is no job of ours.

    Runs inside the transaction that consumes the event. Raises nothing for any content: a refused delivery would be repeated
    with the same content.
    """
    read, key = _READERS.get(event["type"]), _key_of(event["data"])
    job_id = None if key is None else job_of_key(key)
    if read is None or key is None or job_id is None:
        log.info("inbox.ignored", source=source, message_id=message_id, type=event["type"])
        return
    try:
        result = read(event["data"])
    except ValueError as error:
        log.warning("inbox.unreadable", source=source, message_id=message_id, error=str(error))
        return
    record_provider_event(
        ProviderEvent(job_id=job_id, source=source, message_id=message_id, type=event["type"], key=key, result=result)
    )


def _key_of(data: Mapping[str, Any]) -> str | None:
    """Return the idempotency key of the request that caused the event; a provider may put it in either place."""
    request = data.get("request")
    key = request.get("idempotency_key") if isinstance(request, dict) else data.get("idempotency_key")
    return key if isinstance(key, str) else None
