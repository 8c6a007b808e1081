"""`POST /v1/inbox/{source}`: a provider's event, handled exactly once however often it is delivered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from django.db import transaction
from rest_framework.exceptions import AuthenticationFailed, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from standardwebhooks import WebhookVerificationError

from api.base_view import ApiView
from api.forms import require_no_query
from api.inbox_sources import find_source
from idempotency.inbox import consume_once
from idempotency.parsers import read_json, refuse_content_encoding

if TYPE_CHECKING:
    from api.inbox_sources import Source

log = structlog.get_logger(__name__)

_MESSAGE_ID_MAX = 255


class InboxView(ApiView):
    """Events are authenticated by their source's signature, not by an API key."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    def post(self, request: Request, source: str) -> Response:
        """Return 200 for every delivery of a handled event.

        With any other status nothing was done, and the provider must deliver again.
        """
        require_no_query(request)
        sender = find_source(source)
        if sender is None:
            raise NotFound("This source of events is not configured.")
        refuse_content_encoding(request)
        message_id = _verify(sender, request.headers, request.body)
        is_first = _handle_once(sender, message_id, _read_event(request.body))
        log.info("inbox.received", source=source, message_id=message_id, is_first=is_first)
        return Response({"id": message_id, "first": is_first})

    def get_authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        return 'StandardWebhooks realm="semel"'


def _verify(source: Source, headers: Mapping[str, str], body: bytes) -> str:
    """Verify that one of the source's secrets signed this body (Standard Webhooks); return the message id.

    Raises AuthenticationFailed.
    """
    message_id = headers.get("webhook-id", "")
    if not (0 < len(message_id) <= _MESSAGE_ID_MAX and message_id.isascii() and message_id.isprintable()):
        raise AuthenticationFailed(f"webhook-id must have 1 to {_MESSAGE_ID_MAX} printable ASCII characters.")
    signed = {name: headers.get(name, "") for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    reason = ""
    for webhook in source.webhooks:
        try:
            webhook.verify(body, signed, json_parse=False)
        # The library raises ValueError for a malformed signature, and for a body that is not UTF-8.
        except (WebhookVerificationError, ValueError) as error:
            reason = str(error) if isinstance(error, WebhookVerificationError) else "Malformed signature or body"
        else:
            return message_id
    raise AuthenticationFailed(
        f"{reason}. Check webhook-timestamp (at most 300 s from now) and webhook-signature (the source's secret)."
    )


def _read_event(body: bytes) -> Mapping[str, Any]:
    """Return the event, which has a type and data. Raises MalformedJson or ValidationError."""
    event = read_json(body)
    if not isinstance(event, dict):
        raise ValidationError("An event is a JSON object.")
    errors = {}
    if not isinstance(event.get("type"), str):
        errors["type"] = "Must be a string."
    if not isinstance(event.get("data"), dict):
        errors["data"] = "Must be an object."
    if errors:
        raise ValidationError(errors)
    return event


def _handle_once(source: Source, message_id: str, event: Mapping[str, Any]) -> bool:
    """Handle the event unless it was consumed before; return whether this delivery was the first.

    If the process dies before the commit, the next delivery handles it. After the commit no delivery does.
    """
    with transaction.atomic(durable=True):
        if not consume_once(f"inbox/{source.name}", message_id):
            return False
        source.handle(source.name, message_id, event)
    return True
