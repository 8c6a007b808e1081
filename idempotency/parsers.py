"""The JSON parser of DRF views whose requests must have one meaning."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from rest_framework.parsers import BaseParser

from foundation import exact_json
from idempotency.errors import MalformedJson, UnsupportedContentEncoding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.request import Request


class ExactJSONParser(BaseParser):
    """`request.data` is the body's exact value: whole numbers int, others Decimal, no key repeated."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],  # noqa: ARG002 # see below
        media_type: str | None = None,  # noqa: ARG002 # JSON is UTF-8, whatever charset is claimed (RFC 8259 §8.1)
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 # JSON
        """Raise MalformedJson or UnsupportedContentEncoding; Django's RequestDataTooBig escapes untouched."""
        if parser_context is None:
            raise TypeError("ExactJSONParser parses requests only.")
        request: Request = parser_context["request"]
        refuse_content_encoding(request)
        # Not the stream: only `body` keeps to DATA_UPLOAD_MAX_MEMORY_SIZE and can be read again by the
        # fingerprint.
        return read_json(request.body)


def read_json(body: bytes) -> Any:  # noqa: ANN401 # JSON
    """Return the body's exact value. Raises MalformedJson."""
    try:
        return exact_json.loads(body)
    except exact_json.MalformedJson as error:
        raise MalformedJson(error.detail) from None


def refuse_content_encoding(request: Request) -> None:
    """Raise UnsupportedContentEncoding for a compressed body, whose true size and value are unknown."""
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedContentEncoding(encoding=encoding)
