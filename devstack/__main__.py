"""python -m devstack COMMAND: what run.py hands over to."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from devstack.arguments import parse
from devstack.demo import demo
from devstack.errors import LauncherError
from devstack.execute import execute
from devstack.interrupts import ENDING
from devstack.serve import serve
from devstack.testing import test

if TYPE_CHECKING:
    from argparse import Namespace


def main(words: list[str]) -> int:
    """The command's exit code; 1 and one line where it could not do its work."""
    try:
        # run.py holds signals back until there is somebody to take them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        return _run(parse(words))
    except LauncherError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our lines has gone (`| head`); Python would complain once more as it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(options: Namespace) -> int:
    match options.command:
        case "demo":
            return demo()
        case "test":
            return test(options.pytest)
        case "serve":
            return serve(port=options.port, data=options.data)
        case _:
            return execute(data=options.data, words=options.words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
