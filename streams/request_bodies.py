"""Bodies at the streams process: bounded, and told by their length, as those of the api are (api/request_bodies.py)."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.core.handlers.asgi import ASGIRequest
    from django.http.response import HttpResponseBase

    from streams.protocol import Receive


class BoundedBodies(ASGIHandler):
    """As Django's, which reads every body whole, onto the disk if need be, before anybody asks who sends it."""

    async def read_body(self, receive: Receive) -> IO[bytes]:
        """The body; of one that is too large the beginning alone, which is too large as well. Raises RequestAborted.

        Twice the limit is read: a client whose body is not read to its end may never see why it was refused.
        """
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body, left = tempfile.SpooledTemporaryFile(max_size=2 * limit), 2 * limit  # noqa: SIM115 - Django closes it
        more = True
        while more and left > 0:
            message = await receive()
            if message["type"] == "http.disconnect":
                body.close()
                raise RequestAborted
            chunk = message.get("body", b"")
            body.write(chunk)
            left -= len(chunk)
            more = message.get("more_body", False)
        body.seek(0)
        return body

    async def listen_for_disconnect(self, receive: Receive) -> None:
        """Raises RequestAborted when the client leaves; what comes of its body until then is for nobody."""
        while (await receive())["type"] != "http.disconnect":
            pass
        raise RequestAborted

    def create_request(
        self, scope: Mapping[str, Any], body_file: IO[bytes]
    ) -> tuple[ASGIRequest, None] | tuple[None, HttpResponseBase]:
        """The request, with the length of a body that came in chunks: without one it would be taken for empty."""
        headers = scope["headers"]
        if not any(name == b"content-length" for name, _ in headers):
            size = body_file.seek(0, 2)
            body_file.seek(0)
            scope = {**scope, "headers": [*headers, (b"content-length", b"%d" % size)]} if size else scope
        return super().create_request(scope, body_file)
