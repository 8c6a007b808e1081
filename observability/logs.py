"""Log lines: one JSON object an event, with the same base members whoever wrote it: our packages, Django, Celery, the servers."""

from __future__ import annotations

import logging.config
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

# granian's own process imports this module by its log configuration, and nothing else of ours.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from structlog.stdlib import ProcessorFormatter

from foundation.processes import Process
from observability.redaction import Redactor, describe_exception, plain, tame_foreign_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from structlog.typing import EventDict, Processor, WrappedLogger

# In this order, and before all others, so that a person finds them in a line.
BASE_MEMBERS = ("timestamp", "level", "process", "logger", "event")


def configure_logging(config: Mapping[str, Any]) -> None:
    """settings.LOGGING is in force, and structlog writes through it (settings.LOGGING_CONFIG: Django calls it first of all)."""
    logging.config.dictConfig(dict(config))
    # What a broken stream does to logging is told nowhere: a line that is lost must not become an error of the request.
    logging.raiseExceptions = False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            *_SHARED,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=_quiet_logger(settings.LOG_LEVEL),
        cache_logger_on_first_use=True,
    )
    if settings.PROCESS is not Process.MANAGE:
        # What would reach standard error as bare text becomes a line as well.
        logging.captureWarnings(True)
        sys.excepthook = _tell_uncaught
        threading.excepthook = lambda args: _tell_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def line_formatter() -> ProcessorFormatter:
    """What makes a line of a record: JSON, or for people where LOG_FORMAT (or DEBUG) says so."""
    return ProcessorFormatter(
        foreign_pre_chain=[tame_foreign_record, structlog.contextvars.merge_contextvars, *_SHARED],
        processors=[ProcessorFormatter.remove_processors_meta, _tell_error, _tell_plainly, _renderer()],
    )


def _renderer() -> Processor:
    redact = Redactor()
    render: Processor = structlog.processors.JSONRenderer()
    if settings.LOG_FORMAT == "console":
        render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return lambda logger, name, event: redact(str(render(logger, name, event)))


def _tell_error(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Where an exception was raised, and of what class. Its text may quote a payload: it is shown under DEBUG alone."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["exception"] = describe_exception(error)
        if settings.DEBUG:
            shown = structlog.processors.format_exc_info(logger, name, {"exc_info": error})
            event["exception"] = str(shown["exception"]).splitlines()
    return event


def _tell_plainly(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return plain({name: event.pop(name, None) for name in BASE_MEMBERS} | dict(event))


def _add_process(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event["process"] = settings.PROCESS_KIND
    return event


_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _add_process,
]


def _quiet_logger(level: str) -> type[Any]:
    """A bound logger whose failures never reach whoever logs: a line is not worth a request or a job."""
    base = structlog.make_filtering_bound_logger(level)

    def _proxy_to_logger(self: Any, method_name: str, event: str | None = None, /, **members: Any) -> Any:  # noqa: ANN401
        try:
            return base._proxy_to_logger(self, method_name, event, **members)  # type: ignore[attr-defined]  # noqa: SLF001
        except SoftTimeLimitExceeded:
            raise  # a signal to the attempt, which came while it was logging
        except Exception:  # noqa: BLE001
            return None

    return type("QuietLogger", (base,), {"_proxy_to_logger": _proxy_to_logger})


def _tell_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    logging.getLogger("config.uncaught").critical("process.uncaught", exc_info=(kind, error or kind(), trace))
