"""Exact JSON: values survive a round trip, equal values have equal bytes, and ambiguous documents are refused."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation import exact_json
from foundation.exact_json import MalformedJson

# The characters that our JSON may contain: all but U+0000 and surrogates.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-(10**300) + 1, 10**300 - 1)
# Spellings of numbers: any digits, any position of the point, any exponent within the limits.
spellings = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
exact_numbers = integers | spellings.map(lambda spelling: exact_json.loads(spelling.encode()))


def documents_of(numbers):
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
        max_leaves=20,
    )


documents = documents_of(exact_numbers)


def malformed(data):
    with pytest.raises(MalformedJson) as refused:
        exact_json.loads(data)
    return refused.value.detail


# --- Round trips
# -------------------------------------------------------------------------------------------------------


@given(documents)
def test_a_written_document_is_read_unchanged(document):
    canonical = exact_json.dumps(document)
    assert exact_json.loads(canonical) == document
    assert exact_json.dumps(exact_json.loads(canonical)) == canonical
    assert exact_json.dumps_parsed(exact_json.loads(canonical)) == canonical


@given(documents)
def test_other_readers_read_the_same_structure(document):
    by_python = json.loads(exact_json.dumps(document), parse_float=Decimal)
    assert by_python == document


@given(documents_of(integers), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_white_space_key_order_and_escapes_do_not_matter(document, ensure_ascii, indent):
    turned = dict(reversed(document.items())) if isinstance(document, dict) else document
    spelled = json.dumps(turned, ensure_ascii=ensure_ascii, indent=indent)
    assert exact_json.dumps(exact_json.loads(spelled.encode())) == exact_json.dumps(document)


@given(spellings)
def test_a_number_keeps_its_exact_value(spelling):
    value = exact_json.loads(spelling.encode())
    assert value == Decimal(spelling)
    assert isinstance(value, int) == (Decimal(spelling) == Decimal(spelling).to_integral_value())
    assert not isinstance(value, float)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300, allow_subnormal=False))
def test_a_float_is_written_as_its_exact_double(number):
    if number == 0 or abs(number) > 1e-300:
        assert float(exact_json.loads(exact_json.dumps(number))) == number


@given(st.binary(max_size=50))
def test_any_bytes_are_either_read_or_refused(data):
    try:
        document = exact_json.loads(data)
    except MalformedJson:
        return
    assert exact_json.loads(exact_json.dumps(document)) == document


# --- The canonical form
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spellings_of_one", "canonical"),
    [
        (["1", "1.0", "1e0", "1E+0", "10e-1", "0.1e1", "1.000"], "1"),
        (["0", "-0", "-0.0", "0e10", "0.000e-300"], "0"),
        (["1.5", "1.50", "15e-1", "0.15E1"], "1.5"),
        (["-0.0000001", "-1e-7"], "-1e-7"),
        (["1e22", "10000000000000000000000"], "1" + "0" * 22),
        (["1e308", "1" + "0" * 9 + "e299"], "1e308"),
        (["12345678901234567890.12345678901234567890"], "12345678901234567890.1234567890123456789"),
        (['"é"', '"\\u00e9"', '"\\u00E9"'], '"é"'),
        (['"/"', '"\\/"'], '"/"'),
        (['"\\u000a\\u001f\\""', '"\\n\\u001F\\u0022"'], '"\\n\\u001f\\""'),
        (['"😀"', '"\\ud83d\\ude00"'], '"😀"'),
        ([' { "b" : [ ] , "a" : { } } '], '{"a":{},"b":[]}'),
    ],
)
def test_each_value_has_one_canonical_form(spellings_of_one, canonical):
    for spelling in spellings_of_one:
        parsed = exact_json.loads(spelling.encode())
        assert exact_json.dumps(parsed) == exact_json.dumps_parsed(parsed) == canonical.encode()


def test_keys_are_sorted_by_code_point():
    # By UTF-16 units, as RFC 8785 has it, the second would come first.
    assert exact_json.dumps({"😀": 1, "\uff5e": 2, "a": 3}) == '{"a":3,"\uff5e":2,"😀":1}'.encode()


def test_numbers_that_differ_beyond_double_precision_differ():
    one, other = (exact_json.dumps(exact_json.loads(b"0.1" + b"0" * 30 + last)) for last in (b"1", b"2"))
    assert one != other
    assert exact_json.loads(b"9007199254740993") == 9007199254740993


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {1, 2}}, b"bytes", [1j], {None: 1}])
def test_types_that_json_does_not_have_raise_a_type_error(value):
    with pytest.raises(TypeError):
        exact_json.dumps(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, Decimal("NaN"), Decimal("-Infinity"), ["\ud800"]])
def test_values_without_a_json_spelling_raise_a_value_error(value):
    with pytest.raises(ValueError, match=r"."):
        exact_json.dumps(value)


def test_a_value_that_contains_itself_raises_a_value_error():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="contains itself"):
        exact_json.dumps(endless)


def test_a_number_is_never_rounded_silently():
    with pytest.raises(ValueError, match="too many digits"):
        exact_json.dumps(Decimal("0." + "1" * 2000))


# --- Refusals
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b'{"a":1,"a":1}', b'[{"x":{"a":1,"b":2,"a":3}}]', b'{"\\u0061":1,"a":2}'])
def test_a_repeated_key_is_refused_at_any_level_in_any_spelling(data):
    assert "same key twice" in malformed(data)


@pytest.mark.parametrize("data", [b"NaN", b"[Infinity]", b'{"a":-Infinity}'])
def test_numbers_that_json_does_not_have_are_refused(data):
    assert "not a JSON number" in malformed(data)


@pytest.mark.parametrize("data", [b'"\\ud800"', b'"\\udc00\\ud800"', b'{"\\ud83d":1}', b'[["\\uDFFF x"]]'])
def test_lone_surrogates_are_refused_in_strings_and_keys(data):
    assert "surrogate" in malformed(data)


@pytest.mark.parametrize("data", [b'"\\u0000"', b'{"a\\u0000":1}', b'[{"a":["\\u0000"]}]'])
def test_u0000_is_refused_in_strings_and_keys(data):
    assert "U+0000" in malformed(data)


def test_an_escaped_backslash_before_u_is_accepted():
    assert exact_json.loads(b'"\\\\u0000 \\\\ud800"') == "\\u0000 \\ud800"


@pytest.mark.parametrize("data", [b"", b" ", b"\xef\xbb\xbf{}", b"\xff", b'"\xed\xa0\x80"', '"a"'.encode("utf-16")])
def test_a_document_that_is_not_utf8_json_is_refused(data):
    assert malformed(data)


@pytest.mark.parametrize("data", [b"[1,]", b"1 2", b"01", b"+1", b".5", b"1.", b"'a'", b'"\n"', b"// x\n1", b"tru"])
def test_almost_json_is_refused(data):
    assert malformed(data)


@pytest.mark.parametrize("number", ["9" * 300, "-" + "9" * 300, "0." + "9" * 300, "1e308", "1e-308", "-1E+308"])
def test_the_longest_numbers_are_read_exactly(number):
    value = exact_json.loads(number.encode())
    assert value == Decimal(number)
    assert exact_json.loads(exact_json.dumps(value)) == value


@pytest.mark.parametrize(
    "number",
    [
        "9" * 301,
        "-" + "9" * 301,
        "0." + "9" * 301,
        "9" * 5_000,
        "9" * 200_000,
        "1e309",
        "1e-309",
        "10e308",
        "0.1e-308",
        "0e309",
        "1e99999999999999999999",
        "0." + "0" * 400 + "1",
    ],
    ids=lambda number: number[:12],
)
def test_numbers_beyond_the_limits_are_refused(number):
    assert "number" in malformed(number.encode())


def test_nesting_is_limited_to_32_levels():
    for opening, closing in ((b"[", b"]"), (b'{"a":[', b"]}")):
        levels = 32 // opening.count(b"[") // (2 if b"{" in opening else 1)
        assert exact_json.loads(opening * levels + closing * levels)
        assert "32 levels" in malformed(opening * levels + b"[]" + closing * levels)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 990 + b"]" * 990])
def test_very_deep_nesting_is_refused_without_a_crash(data):
    assert "32 levels" in malformed(data)


def test_many_members_on_few_levels_are_accepted():
    assert exact_json.loads(b"[" + b"[[]]," * 100 + b"{}]")[100] == {}


def test_a_refusal_shows_no_value_of_the_body():
    assert "4242" not in malformed(b'{"card": 4242, "card": 4242}')
    assert "4242" not in malformed(b'{"card": "4242')
