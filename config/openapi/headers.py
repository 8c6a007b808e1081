"""Every header of the contract, each described once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from idempotency.request_headers import MAX_KEY_LENGTH, MAX_TTL_SECONDS, MIN_TTL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_FLAG = {"type": "string", "enum": ["true", "false"]}
# RFC 9110 §5.6.7, the one form that servers send.
_HTTP_DATE = {"type": "string", "pattern": "^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT$"}
_SECONDS = {"type": "integer", "minimum": 1}
_KEY = {
    "type": "string",
    "minLength": 1,
    # The quoted form may escape each of its characters.
    "maxLength": 2 * MAX_KEY_LENGTH + 2,
    "pattern": rf'^([!#-+\-.\/0-9:<-\[\]-~]{{1,{MAX_KEY_LENGTH}}}|"([ !#-\[\]-~]|\\["\\]){{1,{MAX_KEY_LENGTH}}}")$',
}
_KEY_MEANING = (
    f'1 to {MAX_KEY_LENGTH} printable ASCII characters, bare or as a Structured Field string (RFC 9651): `abc` and `"abc"` are '
    "the same key. Bare keys hold no space, comma, quote, semicolon or backslash. "
)


def _request(name: str, schema: Mapping[str, Any], description: str, **more: object) -> Mapping[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": description, **more}


def _response(schema: Mapping[str, Any], description: str, **more: object) -> Mapping[str, Any]:
    return {"schema": schema, "description": description, **more}


REQUEST: Mapping[str, Mapping[str, Any]] = {
    "Idempotency-Key": _request(
        "Idempotency-Key",
        _KEY,
        f"{_KEY_MEANING}A new one for each new request, the same one with every retry of it.",
        required=True,
        example="order-1001",
    ),
    "Idempotency-Key-Optional": _request(
        "Idempotency-Key",
        _KEY,
        f"{_KEY_MEANING}Without one the request runs, and a repeat runs again.",
        example="cancel-order-1001",
    ),
    "Idempotency-TTL": _request(
        "Idempotency-TTL",
        {"type": "integer", "minimum": MIN_TTL_SECONDS, "maximum": MAX_TTL_SECONDS},
        "Seconds for which the key is remembered. The first request's counts.",
        example=86_400,
    ),
    "webhook-id": _request(
        "webhook-id",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        "The event's name, the same at each delivery.",
        required=True,
        example="evt_1",
    ),
    "webhook-timestamp": _request(
        "webhook-timestamp",
        {"type": "string", "pattern": "^[0-9]{1,10}$"},
        "Seconds since 1970 at which this delivery was signed; within five minutes of now.",
        required=True,
        example="1795600000",
    ),
    "webhook-signature": _request(
        "webhook-signature",
        {"type": "string"},
        "`v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`; several while secrets rotate, blanks between.",
        required=True,
        example="v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ),
    "If-None-Match": _request(
        "If-None-Match",
        {"type": "string"},
        "The `ETag` of the answer that the client has, a list of such, or `*`.",
        example='W/"0"',
    ),
    "Last-Event-ID": _request(
        "Last-Event-ID",
        {"type": "string"},
        "For an event stream: the `id` of the last event that the client has; counts before `after`. Browsers send it.",
        example="3",
    ),
    "If-None-Match-Strong": _request(
        "If-None-Match", {"type": "string"}, "The `ETag` of the file that the client has.", example='"0"'
    ),
    "Range": _request(
        "Range",
        {"type": "string"},
        "The part that is wanted (RFC 9110 §14): `bytes=0-1023`, `bytes=1024-` or `bytes=-1024`. Any other unit, and more than "
        "one range, is ignored.",
        example="bytes=1024-",
    ),
    "If-Range": _request(
        "If-Range",
        {"type": "string"},
        "The `ETag` of the version that the range is of: if it is another, the whole is sent.",
        example='"0"',
    ),
    "X-Request-Id": _request(
        "X-Request-Id",
        {"type": "string"},
        "An id of the client's own: 1 to 128 letters, digits, `.`, `_`, `:` and `-`. Any other value is replaced.",
    ),
}

_NEVER = _response(
    {"type": "string", "const": "false"}, "SDKs repeat other 409s; this one can never succeed."
)

RESPONSE: Mapping[str, Mapping[str, Any]] = {
    "X-Request-Id": _response(
        {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
        "The request's id: the client's own where it was sane. Logs and problem documents show it.",
        required=True,
    ),
    "Idempotency-Replayed": _response(
        _FLAG, "Where a key was sent: whether this is the stored answer of an earlier request."
    ),
    "Idempotency-Expires": _response(
        _HTTP_DATE, "Where a key was sent: the earliest moment at which it can be free."
    ),
    "Idempotency-Body-Omitted": _response(
        {"type": "string", "enum": ["true"]}, "On a replay whose body was too large to keep."
    ),
    "Location": _response({"type": "string", "format": "uri-reference"}, "Where the job is.", required=True),
    "Retry-After": _response(_SECONDS, "Seconds until asking again can bring news."),
    "Retry-After-Required": _response(_SECONDS, "Seconds until a repeat can succeed.", required=True),
    "ETag": _response({"type": "string", "pattern": '^W/"[0-9a-f]+"$'}, "For If-None-Match.", required=True),
    "ETag-Of-JSON": _response(
        {"type": "string", "pattern": '^W/"[0-9a-f]+"$'}, "For If-None-Match. A stream has none."
    ),
    "X-Accel-Buffering": _response(
        {"type": "string", "const": "no"}, "On a stream: for proxies in front, which must not hold it back."
    ),
    "ETag-Strong": _response(
        {"type": "string", "pattern": '^"[0-9a-f]{64}"$'},
        "For If-None-Match and If-Range: the SHA-256 of the bytes.",
        required=True,
    ),
    "Accept-Ranges": _response({"type": "string", "const": "bytes"}, "Ranges are served.", required=True),
    "Content-Range": _response(
        {"type": "string", "pattern": "^bytes [0-9]+-[0-9]+/[0-9]+$"},
        "Which bytes these are, and of how many.",
        required=True,
    ),
    "Content-Range-Unsatisfied": _response(
        {"type": "string", "pattern": "^bytes \\*/[0-9]+$"}, "How many bytes there are.", required=True
    ),
    "Content-Disposition": _response(
        {
            "type": "string",
            "pattern": "^attachment; filename=\"[A-Za-z0-9._ -]+\"; filename\\*=UTF-8''[^ ]+$",
        },
        "To be saved, not shown, under this name.",
        required=True,
    ),
    "Link": _response({"type": "string"}, 'The next page, `rel="next"`; absent on the last.'),
    "Cache-Control": _response({"type": "string"}, "For how long the answer may be kept.", required=True),
    "Content-Security-Policy": _response({"type": "string"}, "What the page may load."),
    "Vary": _response({"type": "string"}, "What else the answer depends on.", required=True),
    "WWW-Authenticate": _response(
        {"type": "string", "const": 'Bearer realm="semel"'}, "How to authenticate (RFC 6750).", required=True
    ),
    "Allow": _response({"type": "string"}, "The methods that the address takes.", required=True),
    "X-Should-Retry": _NEVER,
    "Stripe-Should-Retry": _NEVER,
}

# Where a component describes a header of another name.
NAMES = {
    "Retry-After-Required": "Retry-After",
    "ETag-Of-JSON": "ETag",
    "ETag-Strong": "ETag",
    "Content-Range-Unsatisfied": "Content-Range",
}
