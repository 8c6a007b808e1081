"""`POST /v1/inbox/{source}`: an event of a provider's, handled exactly once however often it is delivered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
from django.db import transaction
from rest_framework.exceptions import AuthenticationFailed, NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from api.inbox_signature import NotSigned, verify
from api.inbox_sources import find_source
from api.query_strings import check_no_query
from idempotency.inbox import consume_once
from idempotency.parsers import read_json, refuse_content_encoding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.request import Request

    from api.inbox_sources import Source

log = structlog.get_logger(__name__)


class InboxView(APIView):
    """Whoever can sign for a source is let in; an API key says nothing here."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    def post(self, request: Request, source: str) -> Response:
        """200 for the first and for each repeated delivery: the event has been acted upon, or is none that concerns us.

        Any other answer asks for another delivery, and nothing was done.
        """
        check_no_query(request.query_params)
        sender = find_source(source)
        if sender is None:
            raise NotFound("No such source of events is known here.")
        refuse_content_encoding(request)
        try:
            signed = verify(request.headers, request.body, keys=sender.keys, now=time.time())
        except NotSigned as error:
            raise AuthenticationFailed(str(error)) from error
        is_first = _receive(sender, signed.message_id, _read_event(request.body))
        log.info("inbox.received", source=source, message_id=signed.message_id, is_first=is_first)
        return Response({"id": signed.message_id, "first": is_first})

    def get_authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """What a 401 carries: no scheme of HTTP's own, but the one that is meant."""
        return 'StandardWebhooks realm="semel"'


def _read_event(body: bytes) -> Mapping[str, Any]:
    """An event has a type and data. Raises MalformedJson or ValidationError."""
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


def _receive(source: Source, message_id: str, event: Mapping[str, Any]) -> bool:
    """Whether the event was acted upon by this delivery. Dying before the commit: by the next one. After it: never again."""
    with transaction.atomic(durable=True):
        if not consume_once(f"inbox/{source.name}", message_id):
            return False
        source.handle(source.name, message_id, event)
    return True
