"""``manage.py serve_metrics``."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from observability.metrics.exposition import render
from observability.metrics.page import is_scraper

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Answers for the processes of a host on which no api does: what they counted, and no question to any server."""

    help = "Serve /metrics for the processes that share PROMETHEUS_MULTIPROC_DIR with this one, until a signal comes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen."""
        parser.add_argument(
            "--host", default="127.0.0.1", help="the address to listen at (default: %(default)s)"
        )
        parser.add_argument(
            "--port", type=int, required=True, help="the port to listen at; 0: any that is free"
        )

    def handle(self, *_args: Any, host: str, port: int, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        """Serve until SIGINT or SIGTERM."""
        for name in ("METRICS_TOKEN", "PROMETHEUS_MULTIPROC_DIR"):
            if not getattr(settings, name):
                raise CommandError(f"{name} is not set: see config/settings/.")
        with ThreadingHTTPServer((host, port), _Page) as server:
            self.stdout.write(f"http://{host}:{server.server_port}/metrics")
            self.stdout.flush()
            server.serve_forever()


class _Page(BaseHTTPRequestHandler):
    timeout = 5  # seconds that a client may take to say what it wants

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self._answer(404)
        elif not is_scraper(self.headers.get("Authorization", "")):
            self._answer(401, {"WWW-Authenticate": 'Bearer realm="semel"'})
        else:
            self._answer(200, {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}, render(with_standing=False))

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's signature
        """Nothing: a scrape every few seconds is no news."""
