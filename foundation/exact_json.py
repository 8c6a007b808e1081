"""JSON without loss: what is read is what was written, and equal values have equal canonical bytes.

Python's own reader rounds numbers to doubles and lets the last of repeated keys win, so two different
requests could look the same. The strings refused here (U+0000, lone surrogates) cannot be stored by
PostgreSQL or sent as UTF-8. The canonical form follows RFC 8785, but keeps numbers exact and sorts keys by
code point.
"""

from __future__ import annotations

import json
from decimal import Context, Decimal, Inexact
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable


class MalformedJson(ValueError):  # noqa: N818 - named for what happened
    """The body is not JSON with exactly one meaning."""

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or "The body is not JSON with exactly one meaning."
        super().__init__(self.detail)


# More than any amount, id or hash needs; below 4,300, where Python refuses to convert, and cheap to compare.
MAX_DIGITS = 300
# The range of a double's exponent, so that nothing here is out of reach for every other implementation.
MAX_EXPONENT = 308
# Deeper than any honest request, and far from the interpreter's own limit.
MAX_NESTING = 32

# The default context would round to 28 digits in silence; this one has room for every number read, and
# refuses to round.
_EXACT = Context(prec=MAX_DIGITS + 2 * MAX_EXPONENT, traps=[Inexact])


def loads(data: bytes) -> Any:  # noqa: ANN401 # JSON
    """Return the value that the document has: int for whole numbers, Decimal for others, never a float.

    Equal numbers are equal and alike whatever their spelling: 1, 1.0 and 1e0 are the int 1; -0 is 0. Raises
    MalformedJson for what is not JSON, and for what other readers would read differently: a repeated key,
    NaN, a lone surrogate, U+0000, a byte order mark, or numbers and nesting beyond the limits above.
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
        # A byte order mark ends here too: it is no white space.
        raise MalformedJson(f"{exc.msg} (line {exc.lineno}, column {exc.colno}).") from None
    except RecursionError:
        raise MalformedJson(f"Nested deeper than {MAX_NESTING} levels.") from None
    # Both walks are skipped where the text proves them needless, as it does for most bodies.
    if text.count("[") + text.count("{") > MAX_NESTING:
        _refuse_deep_nesting(value)
    if "\\u" in text:
        _refuse_unstorable_strings(value)
    return value


def dumps(value: Any) -> bytes:  # noqa: ANN401 # JSON
    """Return the canonical document of the value: sorted keys, no white space, exact numbers, UTF-8.

    Raises TypeError for what JSON cannot hold, ValueError for NaN, infinities, lone surrogates and endless
    nesting.
    """
    parts: list[str] = []
    try:
        _write(value, parts)
    except RecursionError:
        raise ValueError("The value is nested too deeply, or contains itself.") from None
    return "".join(parts).encode()


def _write(value: Any, parts: list[str]) -> None:  # noqa: ANN401, C901, PLR0912 # one branch per JSON type
    if isinstance(value, str):
        parts.append(encode_basestring(value))
    elif value is True:
        parts.append("true")
    elif value is False:
        parts.append("false")
    elif value is None:
        parts.append("null")
    elif isinstance(value, dict):
        separator = "{"
        for name in sorted(value):
            if not isinstance(name, str):
                raise TypeError(f"An object's key must be a string, not {type(name).__name__}.")
            parts += (separator, encode_basestring(name), ":")
            _write(value[name], parts)
            separator = ","
        parts.append("{}" if separator == "{" else "}")
    elif isinstance(value, (list, tuple)):
        separator = "["
        for item in value:
            parts.append(separator)
            _write(item, parts)
            separator = ","
        parts.append("[]" if separator == "[" else "]")
    elif isinstance(value, int):
        parts.append(_spell_int(value))
    elif isinstance(value, Decimal):
        parts.append(_spell_decimal(value))
    elif isinstance(value, float):
        # repr is the shortest spelling that reads back as this double, which is what its writer meant.
        parts.append(_spell_decimal(Decimal(repr(value))))
    else:
        raise TypeError(f"JSON cannot hold {type(value).__name__}.")


def _spell_int(number: int) -> str:
    digits = int.__repr__(number)
    if len(digits) <= MAX_DIGITS:
        return digits
    # 1e308 was read as an int; written out, it would break the limit on digits when read again.
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
    """Return the one representative of all Decimals that equal this one."""
    if number == number.to_integral_value(context=_EXACT):
        return int(number)
    return number.normalize(_EXACT)


def _read_int(text: str) -> int:
    # Before int(): a longer text would cost quadratic time, or raise Python's own error at 4,300 digits.
    if len(text) > MAX_DIGITS and len(text.lstrip("-")) > MAX_DIGITS:
        raise MalformedJson(f"A number has more than {MAX_DIGITS} digits.")
    return int(text)


def _read_number(text: str) -> int | Decimal:
    exponent = text.lower().partition("e")[2].lstrip("+-0")
    # Checked as spelled, since 0e999999999 equals 0, and by value, since 10e308 equals 1e309.
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
    object_pairs_hook=_read_object,
    parse_float=_read_number,
    parse_int=_read_int,
    parse_constant=_read_constant,
)


def _children(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _refuse_deep_nesting(value: Any) -> None:  # noqa: ANN401 # JSON
    containers = [value] if isinstance(value, (dict, list)) else []
    depth = 0
    while containers:
        depth += 1
        if depth > MAX_NESTING:
            raise MalformedJson(f"Nested deeper than {MAX_NESTING} levels.")
        containers = [
            child for parent in containers for child in _children(parent) if isinstance(child, (dict, list))
        ]


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
