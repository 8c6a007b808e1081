"""The open files of a server process: each connection is one."""

import resource

# The files of a process besides its connections: modules, logs, the database, the broker, and some to spare.
SPARE_FILES = 256


class TooFewFilesError(Exception):
    """The system allows this process too few open files for its connections."""


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files so that it can hold this many connections.

    Raises TooFewFilesError where the system does not allow it. A server that reaches its limit can accept no connection, and
    tries to again and again with all of its CPU time.
    """
    needed = count + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):  # also on macOS, where an unlimited hard limit still ends at kern.maxfilesperproc
        raise TooFewFilesError(f"{count} connections need {needed} open files, and this system allows {hard}") from None
