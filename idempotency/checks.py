"""Settings proven before a process starts: `manage.py check`."""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning
from django.db import connection
from django.utils.module_loading import import_string

from idempotency.keyring import parse_keyring
from idempotency.keys import MAX_TTL_SECONDS, MIN_TTL_SECONDS

# Below this a secret can be found by trying, and with it a body that was fingerprinted.
MIN_SECRET_BYTES = 16


@register
def check_settings(**_: object) -> list[CheckMessage]:
    """Each setting is within its range."""
    claims = [
        (
            "E001",
            MIN_TTL_SECONDS <= settings.IDEMPOTENCY_TTL_SECONDS <= MAX_TTL_SECONDS,
            f"IDEMPOTENCY_TTL_SECONDS must be {MIN_TTL_SECONDS} to {MAX_TTL_SECONDS}, as for clients.",
        ),
        (
            "E002",
            settings.IDEMPOTENCY_MISMATCH_STATUS in {409, 422},
            "IDEMPOTENCY_MISMATCH_STATUS must be 409, or 422 as in the IETF draft.",
        ),
        ("E003", settings.IDEMPOTENCY_WAIT_SECONDS > 0, "IDEMPOTENCY_WAIT_SECONDS must be positive."),
        (
            "E004",
            settings.IDEMPOTENCY_WAITING_DUPLICATES > 0,
            "IDEMPOTENCY_WAITING_DUPLICATES must be positive.",
        ),
        (
            "E005",
            settings.IDEMPOTENCY_KEY_SYNTAX in {"lenient", "strict"},
            'IDEMPOTENCY_KEY_SYNTAX must be "lenient" or "strict".',
        ),
        (
            "E006",
            settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES > 0,
            "IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES must be positive.",
        ),
    ]
    return _errors(claims)


@register
def check_connection(**_: object) -> list[CheckMessage]:
    """The database is connected in a way that the protocol can work with."""
    database = connection.settings_dict
    claims = [
        (
            "E007",
            not database["OPTIONS"].get("server_side_binding"),
            "server_side_binding must be off: a bounded wait is several statements in one message.",
        ),
        (
            "E008",
            not database["ATOMIC_REQUESTS"],
            "ATOMIC_REQUESTS must be off: the transaction that holds a key is the outermost.",
        ),
    ]
    return _errors(claims)


@register
def check_fingerprint_keys(**_: object) -> list[CheckMessage]:
    """The keyring can be read."""
    try:
        parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS))
    except ValueError as exc:
        return [Error(f"IDEMPOTENCY_FINGERPRINT_KEYS: {exc}", id="idempotency.E009")]
    return []


@register
def check_scope(**_: object) -> list[CheckMessage]:
    """The scope function can be imported."""
    try:
        import_string(settings.IDEMPOTENCY_SCOPE)
    except ImportError as exc:
        return [Error(f"IDEMPOTENCY_SCOPE: {exc}", id="idempotency.E010")]
    return []


@register(deploy=True)
def check_fingerprint_secrets(**_: object) -> list[CheckMessage]:
    """No secret is so short that guesses can be tested."""
    try:
        keyring = parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS))
    except ValueError:
        return []  # E009 says so
    return [
        CheckWarning(
            f"The fingerprint secret {kid!r} has under {MIN_SECRET_BYTES} bytes.", id="idempotency.W001"
        )
        for kid, secret in keyring.items()
        if len(secret) < MIN_SECRET_BYTES
    ]


def _errors(claims: list[tuple[str, bool, str]]) -> list[CheckMessage]:
    return [Error(message, id=f"idempotency.{code}") for code, holds, message in claims if not holds]
