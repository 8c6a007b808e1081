"""System checks of the settings, for `manage.py check`."""

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning
from django.db import connection
from django.utils.module_loading import import_string

from idempotency.fingerprint import parse_keyring
from idempotency.request_headers import MAX_TTL_SECONDS, MIN_TTL_SECONDS

# A shorter secret can be found by trial, and fingerprints can then be tested for guesses of a body.
MIN_SECRET_BYTES = 16

_REQUIRED = (
    "IDEMPOTENCY_FINGERPRINT_KEYS",
    "IDEMPOTENCY_KEY_SYNTAX",
    "IDEMPOTENCY_MISMATCH_STATUS",
    "IDEMPOTENCY_REPLAY_FLUSH_SECONDS",
    "IDEMPOTENCY_SCOPE",
    "IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES",
    "IDEMPOTENCY_TTL_SECONDS",
    "IDEMPOTENCY_WAITING_DUPLICATES",
    "IDEMPOTENCY_WAIT_SECONDS",
    "INBOX_RETENTION_SECONDS",
)


@register
def check_settings(**_: object) -> list[CheckMessage]:
    """Refuse settings that are missing or out of range."""
    if missing := [name for name in _REQUIRED if not hasattr(settings, name)]:
        return [_error("E011", f"The setting {name} is missing.") for name in missing]
    ttl, syntax = settings.IDEMPOTENCY_TTL_SECONDS, settings.IDEMPOTENCY_KEY_SYNTAX
    max_bytes = settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES
    ttl_range = f"{MIN_TTL_SECONDS} to {MAX_TTL_SECONDS}"
    rules = (
        ("E001", MIN_TTL_SECONDS <= ttl <= MAX_TTL_SECONDS, f"TTL_SECONDS must be {ttl_range}."),
        ("E002", settings.IDEMPOTENCY_MISMATCH_STATUS in {409, 422}, "MISMATCH_STATUS must be 409 or 422."),
        ("E003", settings.IDEMPOTENCY_WAIT_SECONDS > 0, "WAIT_SECONDS must be positive."),
        ("E004", settings.IDEMPOTENCY_WAITING_DUPLICATES > 0, "WAITING_DUPLICATES must be positive."),
        ("E005", syntax in {"lenient", "strict"}, 'KEY_SYNTAX must be "lenient" or "strict".'),
        ("E006", max_bytes > 0, "STORED_RESPONSE_MAX_BYTES must be positive."),
    )
    found = [_error(code, f"IDEMPOTENCY_{message}") for code, holds, message in rules if not holds]
    try:
        parse_keyring(tuple(settings.IDEMPOTENCY_FINGERPRINT_KEYS))
    except ValueError as exc:
        found.append(_error("E009", f"IDEMPOTENCY_FINGERPRINT_KEYS: {exc}"))
    try:
        import_string(settings.IDEMPOTENCY_SCOPE)
    except ImportError as exc:
        found.append(_error("E010", f"IDEMPOTENCY_SCOPE: {exc}"))
    return found


@register
def check_connection(**_: object) -> list[CheckMessage]:
    """Refuse database options under which the protocol cannot work."""
    database = connection.settings_dict
    rules = (
        ("E007", "server_side_binding", "a bounded wait is several statements in one message"),
        ("E008", "ATOMIC_REQUESTS", "the transaction that holds a key must be the outermost"),
    )
    options = {**database["OPTIONS"], "ATOMIC_REQUESTS": database["ATOMIC_REQUESTS"]}
    return [_error(code, f"{name} must be off: {reason}.") for code, name, reason in rules if options.get(name)]


@register(deploy=True)
def check_fingerprint_secrets(**_: object) -> list[CheckMessage]:
    """Warn about fingerprint secrets that are too short."""
    try:
        keyring = parse_keyring(tuple(getattr(settings, "IDEMPOTENCY_FINGERPRINT_KEYS", ())))
    except ValueError:
        return []  # reported by check_settings
    return [
        CheckWarning(f"The fingerprint secret {kid!r} is shorter than {MIN_SECRET_BYTES} bytes.", id="idempotency.W001")
        for kid, secret in keyring.items()
        if len(secret) < MIN_SECRET_BYTES
    ]


def _error(code: str, message: str) -> CheckMessage:
    return Error(message, id=f"idempotency.{code}")
