"""The kinds of processes that Semel consists of."""

from enum import StrEnum


class Process(StrEnum):
    """Which of Semel's processes this is: it decides how long a statement may take and a connection lives."""

    API = "api"
    STREAMS = "streams"
    WORKER = "worker"
    MANAGE = "manage"
