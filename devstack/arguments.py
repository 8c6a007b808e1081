"""The launcher's command line. Standard library only: run.py reads this file before anything is installed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_DATA = ROOT / ".run"
DEFAULT_PORT = 8000

EPILOG = """\
first look:     python3 run.py demo
work with it:   python3 run.py serve        (in another terminal: python3 run.py exec -- manage.py dbshell)

Where DATABASE_URL and REDIS_URL are set, serve and test use them; else they bring their own PostgreSQL and Valkey.
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command and its options; a mistake ends the process with a usage line, ``--help`` with the help."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Semel on one machine: no Docker, no PostgreSQL, no Redis needed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_test(commands)
    _add_serve(commands)
    _add_exec(commands)
    # The words after `test` and `exec` belong to other programs: argparse must not read them.
    if arguments[:1] == ["test"] and not _asks_for_help(arguments):
        return argparse.Namespace(command="test", pytest=arguments[1:])
    return parser.parse_args(arguments)


def _asks_for_help(arguments: list[str]) -> bool:
    return arguments[1:2] in (["-h"], ["--help"])


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    commands.add_parser(
        "demo",
        help="show, step by step, that a retried request takes effect once",
        description="Starts everything in a temporary folder, plays the scenes over HTTP, counts from outside, "
        "and leaves nothing behind. Exits 0 only if every figure is what it should be.",
    )


def _add_test(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    test = commands.add_parser(
        "test",
        help="run the test suite",
        description="Runs the test suite in parallel on a real PostgreSQL and Valkey; exits as pytest does.",
        epilog="Example: run.py test tests/unit -k fingerprint -n 0",
    )
    test.add_argument("pytest", nargs="*", metavar="PYTEST_ARGUMENT", help="handed to pytest as it stands")


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="run everything in the foreground until Ctrl-C",
        description="Runs every process of Semel until Ctrl-C and prints URLs, an API key and a curl line. "
        "DIR/state.json says the same to programs; DIR/logs has a file for each process.",
    )
    serve.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, metavar="N", help="the API's port (8000; 0: any free one)"
    )
    _add_data(serve)


def _add_exec(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    execute = commands.add_parser(
        "exec",
        help="run a command in the environment of the running stack",
        description="Runs CMD with the environment of the stack that `serve` runs; exits as CMD does.",
        epilog="Examples: run.py exec -- manage.py dbshell · run.py exec -- celery -A config inspect ping",
    )
    _add_data(execute)
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD …", help="the command")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=_folder,
        default=DEFAULT_DATA,
        metavar="DIR",
        help="the folder that holds databases, keys and logs (.run)",
    )


def _port(text: str) -> int:
    """A TCP port; 0 stands for any free one."""
    if text.isascii() and text.isdigit() and int(text) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no port: a number from 1 to 65535, or 0 for any free one")


def _folder(text: str) -> Path:
    """An absolute path: what is relative counts from where the user stood, not from the repository."""
    return (Path(os.environ.get("SEMEL_STARTED_IN", ".")) / Path(text).expanduser()).resolve()
