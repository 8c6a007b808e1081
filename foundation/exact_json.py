"""JSON without loss: numbers keep their exact value, and equal values have equal canonical bytes.

Python's own reader rounds numbers to doubles and keeps the last of repeated keys, so that two different requests could
look the same. PostgreSQL cannot store U+0000, and UTF-8 cannot encode a lone surrogate; both are refused. The canonical
form follows RFC 8785, but keeps numbers exact and sorts keys by code point.
"""

import json
import re
from decimal import Context, Decimal, Inexact
from json.encoder import encode_basestring
from typing import Any, NoReturn


class MalformedJson(ValueError):  # noqa: N818 - named for what happened
    """The body is not JSON with exactly one meaning; `detail` says why, without a value of the body."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


# More than any amount, id or hash needs, cheap to compare, and below 4,300, where Python refuses to convert.
MAX_DIGITS = 300
# The range of a double's exponent, which other implementations can read.
MAX_EXPONENT = 308
# Deeper than real requests, and far below the interpreter's own limit.
MAX_NESTING = 32

# The default context silently rounds to 28 digits. This one has room for every number read, and raises instead of rounding.
_EXACT = Context(prec=MAX_DIGITS + 2 * MAX_EXPONENT, traps=[Inexact])
_LONG_NUMBER = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")
_CONSTANTS = {True: "true", False: "false", None: "null"}


def loads(data: bytes) -> Any:  # noqa: ANN401 # JSON
    """Return the document's value: int for whole numbers, Decimal for others, never a float.

    The spelling of a number does not matter: 1, 1.0 and 1e0 are the int 1; -0 is 0. Raises MalformedJson for text that is
    not JSON or that other readers may read differently: a repeated key, NaN, a lone surrogate, U+0000, a byte order mark,
    numbers or nesting beyond the limits above.
    """
    if not data:
        raise MalformedJson("The body is empty.")
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise MalformedJson(f"Not valid UTF-8 at byte {exc.start}.") from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        # Includes a byte order mark, which is not white space.
        raise MalformedJson(f"{exc.msg} (line {exc.lineno}, column {exc.colno}).") from None
    except RecursionError:
        raise MalformedJson(f"Nested deeper than {MAX_NESTING} levels.") from None
    # These two counts are cheap. For most bodies they show that the slower checks below are not needed.
    if text.count("[") + text.count("{") > MAX_NESTING:
        _refuse_deep_nesting(value)
    if "\\u" in text:
        _refuse_unstorable_strings(value)
    return value


def dumps(value: Any) -> bytes:  # noqa: ANN401 # JSON
    """Return the value's canonical document: sorted keys, no white space, exact numbers, UTF-8.

    Raises TypeError for types that JSON does not have, ValueError for NaN, infinities, lone surrogates and endless nesting.
    """
    try:
        return _spell(value).encode()
    except RecursionError:
        raise ValueError("The value is nested too deeply, or contains itself.") from None


def dumps_parsed(value: Any) -> bytes:  # noqa: ANN401 # JSON
    """Return the same as `dumps`, several times as fast, for a value that `loads` returned.

    It holds no floats, which Python's own encoder would spell in its own way, and rarely what that encoder cannot spell at all.
    """
    try:
        text = _ENCODER.encode(value)
    except _NotPlainError:
        return dumps(value)
    # A whole number of more digits has a shorter spelling.
    if len(text) > MAX_DIGITS and _LONG_NUMBER.search(text):
        return dumps(value)
    return text.encode()


def _spell(value: Any) -> str:  # noqa: ANN401 # JSON
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    if isinstance(value, dict):
        # encode_basestring raises TypeError for a key that is not a string.
        members = [f"{encode_basestring(name)}:{_spell(value[name])}" for name in sorted(value)]
        return "{" + ",".join(members) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_spell, value)) + "]"
    if isinstance(value, int):
        return _spell_int(value)
    if isinstance(value, Decimal):
        return _spell_decimal(value)
    if isinstance(value, float):
        # repr is the shortest spelling that reads back as this double.
        return _spell_decimal(Decimal(repr(value)))
    raise TypeError(f"JSON cannot hold {type(value).__name__}.")


def _spell_int(number: int) -> str:
    digits = int.__repr__(number)
    if len(digits) <= MAX_DIGITS:
        return digits
    # 1e308 is read as an int. Written out in full, it would exceed the limit on digits when read again.
    significant = digits.rstrip("0")
    zeros = len(digits) - len(significant)
    return f"{significant}e{zeros}" if zeros else digits


def _spell_decimal(number: Decimal) -> str:
    if not number.is_finite():
        raise ValueError("JSON cannot hold NaN or infinities.")
    try:
        exact = _exact(number)
    except Inexact:
        raise ValueError("The number has too many digits.") from None
    return _spell_int(exact) if isinstance(exact, int) else str(exact).replace("E", "e")


def _exact(number: Decimal) -> int | Decimal:
    """Return the same value for all Decimals that are equal."""
    if number == number.to_integral_value(context=_EXACT):
        return int(number)
    return number.normalize(_EXACT)


def _read_int(text: str) -> int:
    # Checked before int(), which takes quadratic time and raises its own error at 4,300 digits.
    if len(text) > MAX_DIGITS and len(text.lstrip("-")) > MAX_DIGITS:
        raise MalformedJson(f"A number has more than {MAX_DIGITS} digits.")
    return int(text)


def _read_number(text: str) -> int | Decimal:
    exponent = text.lower().partition("e")[2].lstrip("+-0")
    # Check the exponent in the text, because 0e999999999 equals 0. Check the value too (below), because 10e308 equals 1e309.
    if len(exponent) > len(str(MAX_EXPONENT)) or int(exponent or 0) > MAX_EXPONENT:
        raise MalformedJson(f"A number's exponent is beyond ±{MAX_EXPONENT}.")
    number = Decimal(text)
    if not number:
        return 0
    if len(text) > MAX_DIGITS and len(number.as_tuple().digits) > MAX_DIGITS:
        raise MalformedJson(f"A number has more than {MAX_DIGITS} digits.")
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise MalformedJson(f"A number's exponent is beyond ±{MAX_EXPONENT}.")
    return _exact(number)


def _read_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not a JSON number.")


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedJson("An object has the same key twice.")
    return members


_DECODER = json.JSONDecoder(
    object_pairs_hook=_read_object, parse_float=_read_number, parse_int=_read_int, parse_constant=_read_constant
)


class _NotPlainError(Exception):
    """The value holds a Decimal, which is spelled by `dumps`."""


def _refuse_decimal(_value: object) -> NoReturn:
    raise _NotPlainError


_ENCODER = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    sort_keys=True,
    separators=(",", ":"),
    default=_refuse_decimal,
    check_circular=False,
)


def _refuse_deep_nesting(value: Any) -> None:  # noqa: ANN401 # JSON
    level = [value]
    for _ in range(MAX_NESTING + 1):
        containers = [one for one in level if isinstance(one, (dict, list))]
        if not containers:
            return
        level = [child for one in containers for child in (one.values() if isinstance(one, dict) else one)]
    raise MalformedJson(f"Nested deeper than {MAX_NESTING} levels.")


def _refuse_unstorable_strings(value: Any) -> None:  # noqa: ANN401 # JSON
    if isinstance(value, str):
        if "\0" in value:
            raise MalformedJson("A string contains U+0000.")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MalformedJson("A string contains a lone surrogate.") from None
    elif isinstance(value, dict):
        for name, member in value.items():
            _refuse_unstorable_strings(name)
            _refuse_unstorable_strings(member)
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable_strings(item)
