"""python -m devstack COMMAND: the commands of run.py, which installs the environment and hands over to this module."""

import os
import signal
import sys
from argparse import Namespace

from devstack.arguments import parse
from devstack.bench import bench
from devstack.console import LauncherError
from devstack.demo import demo
from devstack.execute import execute
from devstack.serve import serve
from devstack.stopping import ENDING_SIGNALS
from devstack.testing import test


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code; 1 and one line on standard error if it failed."""
    try:
        # A parent may have blocked these signals; the handlers are installed by now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        return _run(parse(arguments))
    except LauncherError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(options: Namespace) -> int:
    match options.command:
        case "demo":
            return demo()
        case "test":
            return test(options.pytest)
        case "bench":
            return bench(options.bench)
        case "serve":
            return serve(port=options.port, data=options.data)
        case _:
            return execute(data=options.data, command=options.words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
