"""Sources of provider events: settings.INBOX_SECRETS ("source:secret") and settings.INBOX_HANDLERS ("source:function")."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from standardwebhooks import Webhook

if TYPE_CHECKING:
    # Called with source, message id and event, in the transaction that consumes the message.
    Handler = Callable[[str, str, Mapping[str, Any]], None]

# Bytes of a secret (Standard Webhooks specification 1.0).
_SECRET_MIN, _SECRET_MAX = 24, 64


@dataclass(frozen=True)
class Source:
    """A sender of events: its secrets (several while one is rotated) and the function that handles its events."""

    name: str
    webhooks: tuple[Webhook, ...]
    handle: Handler


def find_source(name: str) -> Source | None:
    """Return the source, or None if it is not configured. Raises ImproperlyConfigured for invalid settings."""
    return _sources(tuple(settings.INBOX_SECRETS), tuple(settings.INBOX_HANDLERS)).get(name)


@cache
def _sources(secrets: tuple[str, ...], handlers: tuple[str, ...]) -> Mapping[str, Source]:
    handler_of = dict(_split(handler, "INBOX_HANDLERS") for handler in handlers)
    webhooks: dict[str, tuple[Webhook, ...]] = {}
    for text in secrets:
        name, secret = _split(text, "INBOX_SECRETS")
        if name not in handler_of:
            raise ImproperlyConfigured(f"INBOX_HANDLERS has no handler for the source {name!r}.")
        webhooks[name] = (*webhooks.get(name, ()), Webhook(_decode_secret(name, secret)))
    return {name: Source(name, known, import_string(handler_of[name])) for name, known in webhooks.items()}


def _split(text: str, setting: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    if not (name and value):
        raise ImproperlyConfigured(f"Each entry of {setting} is <source>:<value>.")
    return name, value


def _decode_secret(name: str, secret: str) -> bytes:
    """Return the bytes of a secret as providers show it: "whsec_" and base64."""
    text = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ImproperlyConfigured(f"INBOX_SECRETS of {name!r}: A secret is whsec_ and base64.") from None
    if not _SECRET_MIN <= len(key) <= _SECRET_MAX:
        message = f"INBOX_SECRETS of {name!r}: A secret has {_SECRET_MIN} to {_SECRET_MAX} bytes."
        raise ImproperlyConfigured(message)
    return key
