"""The files of the admin and of /docs, from where they are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whitenoise.middleware import WhiteNoiseMiddleware

from api.problems import READING, only_readable

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from whitenoise.responders import StaticFile


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc] # WhiteNoise ships no types
    """As WhiteNoise's, with a problem document for what is not a way to read a file."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponseBase:
        """The file, or 405."""
        if request.method not in READING:
            return only_readable(request)
        response: HttpResponseBase = WhiteNoiseMiddleware.serve(static_file, request)
        return response
