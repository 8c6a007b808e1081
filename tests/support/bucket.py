"""A minimal S3-compatible server on a real socket. It supports objects in one part, and records how many bytes it sent."""

from __future__ import annotations

import hashlib
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bucket(ThreadingHTTPServer):
    """The server. `objects` has the content by path, `sent` the number of bytes of each GET."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.sent: list[int] = []

    @property
    def storage(self) -> dict[str, Any]:
        """Return its entry for settings.STORAGES."""
        options = {
            "bucket_name": "files",
            "endpoint_url": f"http://127.0.0.1:{self.server_address[1]}",
            "access_key": "key",
            "secret_key": "secret",
            "region_name": "nowhere",
            "addressing_style": "path",
        }
        return {"BACKEND": "jobs.artifact_bucket.ArtifactBucket", "OPTIONS": options}


class _Handler(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.objects[self.path] = body
        self._answer(200, b"", ETag=_tag(body))

    def do_HEAD(self) -> None:
        body = self.server.objects.get(self.path)
        if body is None:
            self._answer(404, b"")
        else:
            self._answer(200, body, is_head=True, ETag=_tag(body))

    def do_GET(self) -> None:
        body = self.server.objects.get(self.path)
        if body is None or self.headers.get("If-Match", _tag(body)) != _tag(body):
            self._answer(404 if body is None else 412, b"")
            return
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        part = body[first : last + 1]
        self.server.sent.append(len(part))
        self._answer(206, part, ETag=_tag(body), **{"Content-Range": f"bytes {first}-{last}/{len(body)}"})

    def do_DELETE(self) -> None:
        self.server.objects.pop(self.path, None)
        self._answer(204, b"")

    def log_message(self, *_args: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes, *, is_head: bool = False, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not is_head:
            self.wfile.write(body)


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324 - as S3 does


@contextmanager
def running_bucket() -> Iterator[Bucket]:
    """Run a bucket during the block."""
    with Bucket() as bucket:
        thread = threading.Thread(target=bucket.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield bucket
        finally:
            bucket.shutdown()
            thread.join()
