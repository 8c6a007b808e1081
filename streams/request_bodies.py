"""Request bodies of the streams process: bounded and with a length, as those of the api (api/request_bodies.py)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.http.response import HttpResponseBase

if TYPE_CHECKING:
    from django.core.handlers.asgi import ASGIRequest

    from streams import Receive


class BoundedBodyHandler(ASGIHandler):
    """Django's handler with a limit: Django's own spools every body whole to disk before it authenticates."""

    async def read_body(self, receive: Receive) -> IO[bytes]:
        """Return the body; if it is too large, return only its beginning, which is still over the limit. Raises RequestAborted.

        Twice the limit is read, because a client whose body is not read to the end may never see why it was refused.
        """
        limit = 2 * settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body, left = tempfile.SpooledTemporaryFile(max_size=limit), limit  # noqa: SIM115 - Django closes it
        has_more = True
        while has_more and left > 0:
            message = await receive()
            if message["type"] == "http.disconnect":
                body.close()
                raise RequestAborted
            chunk = message.get("body", b"")
            body.write(chunk)
            left -= len(chunk)
            has_more = message.get("more_body", False)
        body.seek(0)
        return body

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """Raise RequestAborted when the client disconnects; discard the rest of its body until then."""
        while (await receive())["type"] != "http.disconnect":
            pass
        raise RequestAborted

    def create_request(
        self, scope: Mapping[str, Any], body_file: IO[bytes]
    ) -> tuple[ASGIRequest, None] | tuple[None, HttpResponseBase]:
        """Add the length of a chunked body to the headers: without a length Django takes it for empty."""
        headers = scope["headers"]
        if not any(name == b"content-length" for name, _ in headers):
            size = body_file.seek(0, 2)
            body_file.seek(0)
            scope = {**scope, "headers": [*headers, (b"content-length", b"%d" % size)]} if size else scope
        return super().create_request(scope, body_file)
