"""``manage.py serve_metrics``."""

from argparse import ArgumentParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from observability.metrics.page import is_scraper, render_process_metrics


class Command(BaseCommand):
    """For a host without an api: serve what its processes have counted. Queries no server."""

    help = "Serve /metrics of the processes that share PROMETHEUS_MULTIPROC_DIR with this one, until SIGINT or SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, required=True, help="port to listen on; 0: any free port")

    def handle(self, *_args: Any, host: str, port: int, **_options: Any) -> None:  # noqa: ANN401 - Django's signature
        for name in ("METRICS_TOKEN", "PROMETHEUS_MULTIPROC_DIR"):
            if not getattr(settings, name):
                raise CommandError(f"{name} is not set. See docs/reference/settings.md.")
        with ThreadingHTTPServer((host, port), _Page) as server:
            self.stdout.write(f"http://{host}:{server.server_port}/metrics")
            self.stdout.flush()
            server.serve_forever()


class _Page(BaseHTTPRequestHandler):
    timeout = 5  # seconds that a client may take to send its request

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self._respond(404)
        elif not is_scraper(self.headers.get("Authorization", "")):
            self._respond(401, {"WWW-Authenticate": 'Bearer realm="semel"'})
        else:
            self._respond(200, {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}, render_process_metrics())

    def _respond(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's signature
        """Log nothing: scrapes come every few seconds."""
