"""Who may send us events: settings.INBOX_SECRETS, "source:secret", and settings.INBOX_HANDLERS, "source:handler"."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from api.inbox_signature import decode_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # Called with the source, the message's id and its body; inside the transaction that consumes it.
    Handler = Callable[[str, str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Source:
    """One sender: what it signs with (several while a secret is rotated), and who acts upon what it says."""

    name: str
    keys: tuple[bytes, ...]
    handle: Handler


def find_source(name: str) -> Source | None:
    """The source of that name, None where none is configured. Raises ImproperlyConfigured for settings that make no sense."""
    return _sources(tuple(settings.INBOX_SECRETS), tuple(settings.INBOX_HANDLERS)).get(name)


@cache
def _sources(secrets: tuple[str, ...], handlers: tuple[str, ...]) -> Mapping[str, Source]:
    handler_of = dict(_pair(handler, "INBOX_HANDLERS") for handler in handlers)
    keys: dict[str, tuple[bytes, ...]] = {}
    for text in secrets:
        name, secret = _pair(text, "INBOX_SECRETS")
        if name not in handler_of:
            raise ImproperlyConfigured(f"INBOX_HANDLERS names no handler for the source {name!r}.")
        try:
            keys[name] = (*keys.get(name, ()), decode_secret(secret))
        except ValueError as error:
            raise ImproperlyConfigured(f"INBOX_SECRETS of {name!r}: {error}") from None
    return {name: Source(name, known, import_string(handler_of[name])) for name, known in keys.items()}


def _pair(text: str, setting: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    if not (name and value):
        raise ImproperlyConfigured(f"Each of {setting} is <source>:<value>.")
    return name, value
