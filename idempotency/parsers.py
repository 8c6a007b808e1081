"""Read a DRF request: its body as exact JSON, its key, and the parts that identify it."""

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.utils.module_loading import import_string
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from foundation import exact_json
from idempotency.errors import MalformedJson, UnsupportedContentEncoding
from idempotency.fingerprint import NO_DOCUMENT, RequestParts
from idempotency.records import KeyedRequest
from idempotency.request_headers import parse_key, parse_ttl

# These methods change nothing, so the key is ignored.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class ExactJSONParser(BaseParser):
    """Make `request.data` the body's exact value: whole numbers are int, others Decimal, and no key is repeated."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],  # noqa: ARG002 # see below
        media_type: str | None = None,  # noqa: ARG002 # JSON is UTF-8 under any declared charset (RFC 8259 §8.1)
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 # JSON
        """Return the value. Raises MalformedJson, UnsupportedContentEncoding and Django's RequestDataTooBig."""
        if parser_context is None:
            raise TypeError("ExactJSONParser parses requests only.")
        request: Request = parser_context["request"]
        refuse_content_encoding(request)
        # Not the stream: only `body` enforces DATA_UPLOAD_MAX_MEMORY_SIZE and can be read again for the fingerprint.
        return read_json(request.body)


def read_json(body: bytes) -> Any:  # noqa: ANN401 # JSON
    """Return the body's exact value. Raises MalformedJson."""
    try:
        return exact_json.loads(body)
    except exact_json.MalformedJson as error:
        raise MalformedJson(error.detail) from None


def refuse_content_encoding(request: Request) -> None:
    """Raise UnsupportedContentEncoding for a compressed body: its real size and value are unknown."""
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedContentEncoding(encoding=encoding)


def read_keyed_request(
    request: Request, *, is_required: bool, ttl_seconds: int | None, subject: str | None = None
) -> KeyedRequest | None:
    """Return the request with its key and parsed body; None if it has no key and needs none.

    Raises KeyMissing, KeyInvalid or TtlInvalid (also without a key) for the headers, and for the body what its parser raises.
    """
    if request.method in _SAFE_METHODS:
        return None
    header = request.META.get("HTTP_IDEMPOTENCY_KEY")
    is_keyed = is_required or header is not None
    key = parse_key(header, strict=settings.IDEMPOTENCY_KEY_SYNTAX == "strict") if is_keyed else ""
    default_ttl = settings.IDEMPOTENCY_TTL_SECONDS if ttl_seconds is None else ttl_seconds
    ttl = parse_ttl(request.META.get("HTTP_IDEMPOTENCY_TTL"), default_ttl)
    if not is_keyed:
        return None
    return KeyedRequest(
        scope=import_string(settings.IDEMPOTENCY_SCOPE)(request),
        key=key,
        ttl_seconds=ttl,
        parts=_read_parts(request),
        subject=subject,
    )


def _read_parts(request: Request) -> RequestParts:
    # `body` before `data`: once a parser has read the stream, the fingerprint could not read it again.
    body: bytes = request.body
    # What the view's parsers refuse is refused here, before anything is looked up or stored.
    document: Any = request.data
    if not body or request.content_type.partition(";")[0].strip().lower() != ExactJSONParser.media_type:
        document = NO_DOCUMENT
    elif not any(isinstance(parser, ExactJSONParser) for parser in request.parsers or ()):
        # Another parser may round numbers or drop repeated keys, and make different requests look the same.
        refuse_content_encoding(request)
        document = read_json(body)
    return RequestParts(
        method=request.method or "",
        path=request.path,
        query=request.META.get("QUERY_STRING", ""),
        content_type=request.content_type,
        body=body,
        document=document,
    )
