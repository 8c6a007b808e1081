"""The launcher's command line. Standard library only: run.py reads this file before anything is installed."""

import argparse
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_DATA = ROOT / ".run"
DEFAULT_PORT = 8000

EPILOG = """\
first look:     python3 run.py demo
work with it:   python3 run.py serve        (in another terminal: python3 run.py exec -- manage.py dbshell)

If DATABASE_URL and REDIS_URL are set, serve and test use those servers; otherwise they start their own PostgreSQL and Valkey.
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the command and its options; exit with a usage line on an error, with the help on ``--help``."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Semel on one machine: needs no Docker, PostgreSQL or Redis.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser(
        "demo",
        help="show, step by step, that a retried request takes effect once",
        description="Starts everything in a temporary folder, runs the scenarios over HTTP, counts their effects from outside, "
        "and removes everything. Exits 0 only if every number is as expected.",
    )
    test = commands.add_parser(
        "test",
        help="run the test suite",
        description="Runs the test suite in parallel on a real PostgreSQL and Valkey; exits as pytest does.",
        epilog="Example: run.py test tests/unit -k fingerprint -n 0",
    )
    test.add_argument("pytest", nargs="*", metavar="PYTEST_ARGUMENT", help="passed to pytest unchanged")
    commands.add_parser(
        "bench",
        help="measure Semel beside what a team would build or pick instead",
        description="Runs each contestant in turn on one PostgreSQL and one Valkey, and prints figures, ratios and targets.",
    ).add_argument("bench", nargs="*", metavar="BENCH_ARGUMENT", help="see `run.py bench --help`")
    serve = commands.add_parser(
        "serve",
        help="run everything in the foreground until Ctrl-C",
        description="Runs every process of Semel until Ctrl-C and prints URLs, an API key and a curl command. "
        "DIR/state.json has the same for programs; DIR/logs has a file for each process.",
    )
    serve.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, metavar="N", help="the API's port (8000; 0: any free one)"
    )
    execute = commands.add_parser(
        "exec",
        help="run a command in the environment of the running stack",
        description="Runs CMD with the environment of the stack that `serve` runs; exits as CMD does.",
        epilog="Examples: run.py exec -- manage.py dbshell · run.py exec -- celery -A config inspect ping",
    )
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD …", help="the command")
    for command in (serve, execute):
        command.add_argument(
            "--data",
            type=_folder,
            default=DEFAULT_DATA,
            metavar="DIR",
            help="the folder for databases, keys and logs (.run)",
        )
    # The arguments after `test` are pytest's, and those after `bench` the benchmark's: argparse must not interpret them.
    if arguments[:1] == ["test"] and arguments[1:2] not in (["-h"], ["--help"]):
        return argparse.Namespace(command="test", pytest=arguments[1:])
    if arguments[:1] == ["bench"]:
        return argparse.Namespace(command="bench", bench=arguments[1:])
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a port: use 1 to 65535, or 0 for any free one")


def _folder(text: str) -> Path:
    """Return an absolute path; a relative one starts where the user called run.py, not at the repository."""
    return (Path(os.environ.get("SEMEL_STARTED_IN", ".")) / Path(text).expanduser()).resolve()
