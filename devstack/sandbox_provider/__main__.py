"""python -m devstack.sandbox_provider --port N --store FILE [--key BEARER]."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from devstack.sandbox_provider.charges import ChargeService
from devstack.sandbox_provider.events import EventSender
from devstack.sandbox_provider.server import ProviderServer
from devstack.sandbox_provider.store import Store

if TYPE_CHECKING:
    from types import FrameType

# The environment variable with the events' secret: other users can read a command line.
SECRET = "PROVIDER_WEBHOOK_SECRET"  # noqa: S105 - its name
# Longer than a test's short time-out, shorter than the default one.
SLOW_SECONDS = 2.0
# Longer than any time-out of ours; then even a client without a time-out is disconnected.
SILENT_SECONDS = 60.0


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, which end the process at once: everything answered is stored."""
    options = _parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, _end)
    with (
        contextlib.suppress(KeyboardInterrupt),
        contextlib.closing(Store(options.store)) as store,
        ProviderServer(
            options.port,
            charges=ChargeService(store, slow_seconds=options.slow_seconds),
            bearer=options.key,
            silent_seconds=options.silent_seconds,
        ) as server,
    ):
        if options.webhook_url:
            EventSender(store, url=options.webhook_url, secret=os.environ[SECRET]).start()
        print(f"provider listening on {server.url}", flush=True)
        server.serve_forever()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m devstack.sandbox_provider", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--store", type=Path, required=True, help="SQLite file, created if it is missing")
    parser.add_argument("--key", default="sk_sandbox", help="the bearer key that callers must send")
    parser.add_argument(
        "--slow-seconds", type=float, default=SLOW_SECONDS, help="how long tok_slow waits before it charges"
    )
    parser.add_argument(
        "--silent-seconds",
        type=float,
        default=SILENT_SECONDS,
        help="how long tok_timeout_after_charge keeps a connection open",
    )
    parser.add_argument(
        "--webhook-url", help=f"where events are sent; the shared secret (whsec_…) is read from {SECRET}"
    )
    return parser.parse_args(arguments)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    # Raised in the main thread, out of serve_forever; the other threads are daemons and end with it.
    raise SystemExit(0)


if __name__ == "__main__":
    main()
