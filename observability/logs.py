"""Log lines: one JSON object per event, with the same first members for our packages, Django, Celery and the servers."""

from __future__ import annotations

import logging.config
import os
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

# granian's main process imports this module for its log configuration, before anything else of ours.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from structlog.stdlib import ProcessorFormatter

from foundation.processes import Process
from observability.redaction import Redactor, describe_exception, redact_event, redact_foreign_record

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

# The first members of each line, in this order.
BASE_MEMBERS = ("timestamp", "level", "process", "logger", "event")


def configure_logging(config: Mapping[str, Any]) -> None:
    """Apply settings.LOGGING, and make structlog write through it. Django calls this first (settings.LOGGING_CONFIG)."""
    logging.config.dictConfig(dict(config))
    # A line that cannot be written must not become an error of a request or a job.
    logging.raiseExceptions = False
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, _add_members, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(settings.LOG_LEVEL),
        cache_logger_on_first_use=True,
    )
    if settings.PROCESS is not Process.MANAGE:
        # Write as log lines what Python would print to standard error.
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def line_formatter() -> ProcessorFormatter:
    """Return the formatter of log lines: JSON, or text for people if LOG_FORMAT is "console"."""
    return ProcessorFormatter(
        foreign_pre_chain=[redact_foreign_record, _add_members],
        processors=[ProcessorFormatter.remove_processors_meta, _add_exception, _redact, _renderer()],
    )


def _renderer() -> Processor:
    redact = Redactor()
    render: Processor = structlog.processors.JSONRenderer()
    if settings.LOG_FORMAT == "console":
        render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return lambda logger, name, event: redact(str(render(logger, name, event)))


def _add_exception(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Add class and place of an exception. Its text may quote a payload and is shown only under DEBUG."""
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        event["exception"] = describe_exception(error)
        if settings.DEBUG:
            formatted = structlog.processors.format_exc_info(logger, name, {"exc_info": error})
            event["exception"] = str(formatted["exception"]).splitlines()
    return event


def _redact(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return redact_event({name: event.pop(name, None) for name in BASE_MEMBERS} | dict(event))


def _add_process(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event["process"] = settings.PROCESS_KIND
    return event


_MEMBERS: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _add_process,
)


def _add_members(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Add the base members and the context. Drop the line if that fails: it is not worth a request or a job."""
    try:
        for processor in _MEMBERS:
            event = processor(logger, name, event)  # type: ignore[assignment] # each returns the event
    except SoftTimeLimitExceeded:
        raise  # a signal for the attempt that is logging
    except Exception as error:
        raise structlog.DropEvent from error
    return event


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    logging.getLogger("config.uncaught").critical("process.uncaught", exc_info=(kind, error or kind(), trace))
