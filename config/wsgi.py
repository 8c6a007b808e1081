"""The api process: plain requests, served by threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.setdefault("SEMEL_PROCESS", "api")

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from config.chunked_body import ChunkedBody, is_chunked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

_django = get_wsgi_application()


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Django's answer; a body in chunks is a body like any other."""
    if is_chunked(environ):
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        environ["wsgi.input"] = ChunkedBody(environ["wsgi.input"], limit)
        environ["CONTENT_LENGTH"] = str(limit)
    return _django(environ, start_response)
