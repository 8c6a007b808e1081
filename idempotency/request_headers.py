"""Parse the request headers `Idempotency-Key` and `Idempotency-TTL`."""

import re

from idempotency.errors import KeyInvalid, KeyMissing, TtlInvalid

MAX_KEY_LENGTH = 255
# An hour is longer than any client's quick retries; a month bounds the storage.
MIN_TTL_SECONDS = 3_600
MAX_TTL_SECONDS = 30 * 24 * 3_600

# White space around a header's value is not part of it (RFC 9110 §5.5). Some servers strip it, others do not.
_WHITE_SPACE = " \t"

# The form that most SDKs send. No comma, because servers join two header lines with one. No quote, semicolon or
# backslash, because they belong to the quoted form: a broken quoted key must not be read as a different, bare key.
_BARE = re.compile(r"[!#-+\--:<-\[\]-~]+")

# The bare items that a parameter's value may be (RFC 9651 §3.3).
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_BARE_ITEM = "|".join(
    (
        _STRING,
        r"-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})",  # decimal, integer
        r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*",  # token
        r":[A-Za-z0-9+/=]*:",  # byte sequence
        r"\?[01]",  # boolean
        r"@-?[0-9]{1,15}",  # date
        r'%"(?:[ !#$&-~]|%[0-9a-f]{2})*"',  # display string
    )
)
_PARAMETER = rf";[ ]*[a-z*][a-z0-9_\-.*]*(?:=(?:{_BARE_ITEM}))?"
_QUOTED = re.compile(rf"({_STRING})(?:{_PARAMETER})*")
_ESCAPE = re.compile(r'\\(["\\])')
_TTL = re.compile(r"[0-9]{1,7}")


def is_key(text: str) -> bool:
    """Return True if some header could contain this key."""
    return 1 <= len(text) <= MAX_KEY_LENGTH and text.isascii() and text.isprintable()


def parse_key(header: str | None, *, strict: bool) -> str:
    """Return the key in the header: `"abc"`, `"abc";a=1` and `abc` are the same key.

    The quoted form is a Structured Field string (RFC 9651 §3.3.3); with `strict` it is the only accepted form.
    Raises KeyMissing without a header, KeyInvalid if the key is malformed, empty, or longer than 255 characters.
    """
    if header is None:
        raise KeyMissing
    field = header.strip(_WHITE_SPACE)
    if match := _QUOTED.fullmatch(field):
        key = _ESCAPE.sub(r"\1", match[1][1:-1])
    elif not strict and _BARE.fullmatch(field):
        key = field
    else:
        raise KeyInvalid
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise KeyInvalid
    return key


def parse_ttl(header: str | None, default: int) -> int:
    """Return the key's lifetime in seconds, `default` without a header. Raises TtlInvalid."""
    if header is None:
        return default
    digits = header.strip(_WHITE_SPACE)
    if not _TTL.fullmatch(digits) or not MIN_TTL_SECONDS <= int(digits) <= MAX_TTL_SECONDS:
        raise TtlInvalid
    return int(digits)
