"""Log lines: one JSON object per event, with the same first members for our packages, Django, Celery and the servers."""

from __future__ import annotations

import json
import logging.config
import os
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

# granian's main process imports this module for its log configuration, before anything else of ours.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings

from foundation.processes import Process
from observability.redaction import Redactor, describe_exception, redact_event, redact_foreign_record

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

# The first members of each line, in this order.
BASE_MEMBERS = ("timestamp", "level", "process", "logger", "event")


def configure_logging(config: Mapping[str, Any]) -> None:
    """Apply settings.LOGGING, and make structlog write through it. Django calls this first (settings.LOGGING_CONFIG)."""
    logging.config.dictConfig(dict(config))
    # A line that cannot be written must not become an error of a request or a job.
    logging.raiseExceptions = False
    # Our lines show neither the place of the call nor the thread or process number: do not look them up for each line.
    logging._srcfile = None  # noqa: SLF001 - the documented way
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, _add_members, _pass_to_logging],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.LOG_LEVEL),
        cache_logger_on_first_use=True,
    )
    if settings.PROCESS is not Process.MANAGE:
        # Write as log lines what Python would print to standard error.
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def line_formatter() -> LineFormatter:
    """Return the formatter of log lines: JSON, or text for people if LOG_FORMAT is "console"."""
    return LineFormatter()


class _OurEvent(dict[str, Any]):
    """The members of one of our own lines, as structlog passes them to `logging`."""


class LineFormatter(logging.Formatter):
    """Formats our own lines and those of libraries in the same way. Every request writes a line, so this is written for speed."""

    def __init__(self) -> None:
        super().__init__()
        self._redact = Redactor()
        self._render = _renderer()

    def format(self, record: logging.LogRecord) -> str:
        event: EventDict = dict(record.msg) if isinstance(record.msg, _OurEvent) else _foreign_event(record)
        _add_exception(event)
        base = {name: event.pop(name, None) for name in BASE_MEMBERS}
        return self._redact(self._render(redact_event({**base, **event})))


def _renderer() -> Callable[[EventDict], str]:
    if settings.LOG_FORMAT == "console":
        for_people = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        return lambda event: str(for_people(None, "", event))
    # Made once: json.dumps makes one for each call if any option differs from the default.
    return json.JSONEncoder(check_circular=False).encode


def _foreign_event(record: logging.LogRecord) -> EventDict:
    """Return the members of a library's line. Raises DropEvent."""
    event: EventDict = {"event": record.getMessage(), "exc_info": record.exc_info}
    redact_foreign_record(record, event)
    return _add_members(logging.getLogger(record.name), record.levelname.lower(), event)


def _add_exception(event: EventDict) -> None:
    """Add class and place of an exception. Its text may quote a payload and is shown only under DEBUG."""
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        event["exception"] = describe_exception(error)
        if settings.DEBUG:
            formatted = structlog.processors.format_exc_info(None, "", {"exc_info": error})
            event["exception"] = str(formatted["exception"]).splitlines()


def _add_members(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Add the base members and the context. Drop the line if that fails: it is not worth a request or a job."""
    try:
        event = structlog.contextvars.merge_contextvars(logger, name, event)
        event["level"] = "error" if name == "exception" else name
        event["logger"] = logger.name
        event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        event["process"] = settings.PROCESS_KIND
    except SoftTimeLimitExceeded:
        raise  # a signal for the attempt that is logging
    except Exception as error:
        raise structlog.DropEvent from error
    return event


def _pass_to_logging(_logger: WrappedLogger, _name: str, event: EventDict) -> tuple[tuple[_OurEvent], dict[str, Any]]:
    return (_OurEvent(event),), {}


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    logging.getLogger("config.uncaught").critical("process.uncaught", exc_info=(kind, error or kind(), trace))
