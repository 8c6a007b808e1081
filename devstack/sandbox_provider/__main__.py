"""python -m devstack.sandbox_provider --port N --book FILE [--key BEARER]."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from devstack.sandbox_provider.charges import Cashier
from devstack.sandbox_provider.events import Listener, Messenger
from devstack.sandbox_provider.server import ProviderServer
from devstack.sandbox_provider.store import Book

if TYPE_CHECKING:
    from types import FrameType

# Where the secret of the events is: command lines are seen by everybody on the machine.
SECRET = "PROVIDER_WEBHOOK_SECRET"  # noqa: S105 - its name
# Longer than a client's patience in a hurry, shorter than its time-out.
SLOW_SECONDS = 2.0
# Longer than any time-out of ours; then even a client that never gives up is let go.
SILENT_SECONDS = 60.0


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, which end it at once: everything answered is in the book."""
    options = _parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, _end)
    with (
        contextlib.suppress(KeyboardInterrupt),
        contextlib.closing(Book(options.book)) as book,
        ProviderServer(
            options.port,
            cashier=Cashier(book, slow_seconds=options.slow_seconds),
            bearer=options.key,
            silent_seconds=options.silent_seconds,
        ) as server,
    ):
        if options.webhook_url:
            Messenger(book, Listener(options.webhook_url, os.environ[SECRET])).start()
        print(f"provider listening on {server.url}", flush=True)
        server.serve_forever()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m devstack.sandbox_provider", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--book", type=Path, required=True, help="SQLite file; made where there is none")
    parser.add_argument("--key", default="sk_sandbox", help="the bearer key that callers must show")
    parser.add_argument("--slow-seconds", type=float, default=SLOW_SECONDS, help="how long tok_slow takes")
    parser.add_argument(
        "--silent-seconds",
        type=float,
        default=SILENT_SECONDS,
        help="how long tok_timeout_after_charge holds a connection",
    )
    parser.add_argument(
        "--webhook-url",
        help=f"who is told of charges and refunds; the shared secret (whsec_…) is in {SECRET}",
    )
    return parser.parse_args(arguments)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    # Raised in the main thread, out of serve_forever; the other threads are daemons and end with it.
    raise SystemExit(0)


if __name__ == "__main__":
    main()
