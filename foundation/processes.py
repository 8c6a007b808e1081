"""The kinds of processes that Semel consists of."""

from enum import StrEnum


class Process(StrEnum):
    """The kind of the current process. The settings use it to choose the statement time-out and the lifetime of connections."""

    API = "api"
    STREAMS = "streams"
    WORKER = "worker"
    MANAGE = "manage"
