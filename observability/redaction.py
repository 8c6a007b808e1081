"""Keep payloads, results, secrets and the text of exceptions out of log lines, and show idempotency keys as digests."""

from __future__ import annotations

import json
import math
import re
import traceback
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils.crypto import salted_hmac

if TYPE_CHECKING:
    import logging

    from structlog.typing import EventDict

REDACTED = "[redacted]"
# Members that are hidden if they are logged by mistake.
_HIDDEN = frozenset(
    {"api_key", "authorization", "body", "cookie", "credential", "data", "headers", "metadata"}
    | {"params", "password", "payload", "result", "secret", "token"}
)
_SPECIAL = _HIDDEN | {"idempotency_key", "error"}
_TEXT_MAX = 2_000  # characters of one member: enough for a message
_MEMBERS_MAX = 50
_DEPTH_MAX = 5
_FRAMES_MAX = 40
_CAUSES_MAX = 5
# Names of settings that are secrets. Values shorter than the minimum may be ordinary words, as in compose files.
_SECRET_NAMES = re.compile(r"SECRET|PASSWORD|TOKEN|PRIVATE|_KEYS?$")
_SECRET_MIN = 8
# Their text is an address and a reason. It quotes nothing that a client sent.
_SHOWN_ERRORS = (OperationalError, InterfaceError, redis.ConnectionError, redis.TimeoutError)
_ROOTS = ("site-packages", "dist-packages")


def key_digest(key: str) -> str:
    """Return what log lines show of an idempotency key: always the same for one key, and useless for finding the key."""
    return salted_hmac("semel.logs.idempotency-key", key, algorithm="sha256").hexdigest()[:16]


def describe_exception(error: BaseException) -> dict[str, Any]:
    """Return class, frames and causes: no local variables, no source text, no message except of a lost connection."""
    description, *causes = map(_one_exception, islice(_chain(error), 1 + _CAUSES_MAX))
    return description | ({"causes": causes} if causes else {})


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _one_exception(error: BaseException) -> dict[str, Any]:
    kind = type(error)
    description: dict[str, Any] = {"type": f"{kind.__module__}.{kind.__qualname__}"}
    if sqlstate := getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None):
        description["sqlstate"] = str(sqlstate)
    if isinstance(error, _SHOWN_ERRORS):
        description["text"] = _first_line(str(error))
    frames = traceback.walk_tb(error.__traceback__)
    places = [f"{_short(frame.f_code.co_filename)}:{line} {frame.f_code.co_name}" for frame, line in frames]
    return description | {"frames": places[-_FRAMES_MAX:]}


@lru_cache(maxsize=512)
def _short(filename: str) -> str:
    parts = Path(filename).parts
    for root in _ROOTS:
        if root in parts:
            return "/".join(parts[parts.index(root) + 1 :])
    base = str(settings.BASE_DIR)
    return filename.removeprefix(base).lstrip("/") if filename.startswith(base) else "/".join(parts[-2:])


def redact_event(event: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """Convert members to JSON values: hide forbidden ones, replace keys by digests, shorten long ones."""
    members: dict[str, Any] = {}
    for name, value in islice(event.items(), _MEMBERS_MAX):
        member = str(name)[:_TEXT_MAX]
        if type(value) is str and len(value) <= _TEXT_MAX and member not in _SPECIAL:
            members[member] = value
        elif member == "idempotency_key" and value is not None:
            members["idempotency_key_digest"] = key_digest(str(value))
        elif member == "error":
            # The first line of a database error is its reason. The others may quote the row.
            members[member] = _value(_first_line(value) if isinstance(value, str) else value, depth)
        else:
            members[member] = REDACTED if member in _HIDDEN else _value(value, depth)
    return members


def _value(value: object, depth: int) -> Any:  # noqa: ANN401 - any JSON value
    match value:
        case None | bool():
            return value
        case str():
            return str(value) if len(value) <= _TEXT_MAX else f"{value[:_TEXT_MAX]}…"
        case int():
            return int(value) if abs(value) < 2**63 else str(value)[:_TEXT_MAX]
        case float():
            return value if math.isfinite(value) else str(value)
        case UUID() | date() | Decimal() | Path():
            return str(value)
        case BaseException():
            return describe_exception(value)
        case Mapping() if depth < _DEPTH_MAX:
            return redact_event(value, depth + 1)
        case list() | tuple() | set() | frozenset() if depth < _DEPTH_MAX:
            return [_value(member, depth + 1) for member in list(value)[:_MEMBERS_MAX]]
        case _:
            # Not its repr, which can show the content of a row or a request.
            return f"<{type(value).__name__}>"


def _first_line(text: str) -> str:
    return re.split(r"\n|\\n", text, maxsplit=1)[0]


class Redactor:
    """Removes secrets from a finished line, wherever they are: the last of several guards."""

    def __init__(self) -> None:
        secrets = _secrets()
        known = sorted({*secrets, *(json.dumps(secret)[1:-1] for secret in secrets)}, key=len, reverse=True)
        # Each alternative of the pattern below contains one of these.
        self._beginnings = (*known, "test_", "live_", "://", "Bearer ", "Basic ")
        literal = "|".join(map(re.escape, known)) or "(?!)"
        # The groups hold what stays: the id of an API key, scheme and user of a URL, the name of an authentication scheme.
        self._pattern = re.compile(
            rf"(?:{literal})"
            r"|(?P<key>\b(?:live|test)_[0-9a-f]{16}_)[\w-]+"
            r"|(?P<url>\b[a-z][a-z0-9+.-]*://[^\s/:@\"]*:)[^\s/@\"]+(?P<at>@)"
            r"|(?P<auth>\b(?:Bearer|Basic) )[\w.~+/=-]{8,}",
            re.ASCII,
        )

    def __call__(self, line: str) -> str:
        """Return the line without secrets. Search only lines that contain the beginning of one: most do not."""
        for beginning in self._beginnings:
            if beginning in line:
                return self._pattern.sub(_hide, line)
        return line


def _hide(match: re.Match[str]) -> str:
    return f"{match['key'] or match['url'] or match['auth'] or ''}{REDACTED}{match['at'] or ''}"


def _secrets() -> set[str]:
    """Return the secrets in the settings."""
    secrets = [str(database.get("PASSWORD") or "") for database in settings.DATABASES.values()]
    for name in filter(_SECRET_NAMES.search, filter(str.isupper, dir(settings))):
        value = getattr(settings, name)
        values = value if isinstance(value, list | tuple) else [value]
        entries = [entry for entry in values if isinstance(entry, str)]
        # Entries of lists of keys are "name:secret".
        secrets += [entry.rpartition(":")[2] for entry in entries] if name.endswith("_KEYS") else entries
    return {secret for secret in secrets if len(secret) >= _SECRET_MIN}


def redact_foreign_record(record: logging.LogRecord, event: EventDict) -> None:
    """Replace the text of records of Django and Celery that quote paths, arguments or exceptions."""
    if record.name == "celery.app.trace" and isinstance(task := getattr(record, "data", None), dict):
        # Its text contains that of the exception.
        event["event"] = f"celery.task {task.get('description', 'traced')}"
        event["task"], event["task_id"] = task.get("name"), task.get("id")
    elif record.name.startswith("django.") and hasattr(record, "status_code"):
        # Its text contains the path, which may contain an idempotency key. The access log has the route.
        event["event"] = "django.response"
        event["status"] = record.status_code
