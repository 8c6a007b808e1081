"""Parsing `Idempotency-Key` and `Idempotency-TTL`: equal spellings give one key, malformed ones are refused."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from idempotency.errors import KeyInvalid, KeyMissing, TtlInvalid
from idempotency.request_headers import parse_key, parse_ttl

BARE = "".join(char for char in string.printable if "!" <= char <= "~" and char not in ',";\\')
QUOTABLE = "".join(map(chr, range(0x20, 0x7F)))


def quote(key):
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.text(BARE, min_size=1, max_size=255))
def test_a_bare_key_and_its_quoted_spelling_are_the_same(key):
    assert parse_key(key, strict=False) == parse_key(quote(key), strict=True) == key


@pytest.mark.parametrize("header", ["\tabc\t", " \t abc", '\t"abc";a=1 \t'])
def test_white_space_around_a_key_is_ignored(header):
    """RFC 9110 §5.5. Some servers strip it, others do not."""
    assert parse_key(header, strict=False) == "abc"


@given(st.text(QUOTABLE, min_size=1, max_size=255))
def test_a_quoted_key_may_contain_any_printable_character(key):
    assert parse_key(quote(key), strict=True) == key


@example("0\t")
@given(st.text(st.characters(max_codepoint=255), max_size=20))
def test_a_bare_key_is_accepted_whole_or_refused(header):
    try:
        key = parse_key(header, strict=False)
    except KeyInvalid:
        return
    assert key == header.strip(" \t") or header.strip(" \t").startswith('"')


@pytest.mark.parametrize(
    "parameters",
    [
        ";v=1",
        ";a",
        "; a;b=?1",
        ';c=:Zm9v:;d=tok/en:*;e="x;\\"y,"',
        ";f=-1.5",
        ";g=@1732233600",
        ';h=%"caf%c3%a9"',
        ";*a.b-c_d=1",
    ],
)
def test_parameters_are_not_part_of_the_key(parameters):
    assert parse_key('"abc"' + parameters, strict=True) == "abc"


@pytest.mark.parametrize(
    "parameters",
    [";", ";A=1", " ;a", ";a=", ";a=(1)", ";a=1.", ";a=1234567890123456", ";1a", "; a b", ";a=?2", ';a="', ",", "x"],
)
def test_malformed_parameters_make_the_key_malformed(parameters):
    with pytest.raises(KeyInvalid):
        parse_key('"abc"' + parameters, strict=False)


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        '""',
        '"',
        '"abc',
        'abc"',
        '"a\\b"',
        '"a"b"',
        "a b",
        "a;b",
        "a\\b",
        "a\tb",
        "abc\n",
        '"a\tb"',
        '"é"',
        "é",
        "\xa0abc",
    ],
)
def test_malformed_keys_are_refused(header):
    with pytest.raises(KeyInvalid):
        parse_key(header, strict=False)


@pytest.mark.parametrize("header", ["a,b", "a, b", '"a","b"', '"a", "b"', 'a,"b"', "a,"])
def test_two_header_lines_folded_into_one_are_refused(header):
    with pytest.raises(KeyInvalid):
        parse_key(header, strict=False)


def test_a_key_has_at_most_255_characters_after_unescaping():
    assert parse_key("x" * 255, strict=False)
    assert parse_key(quote('"' * 255), strict=True)
    for header in ("x" * 256, quote("x" * 256), quote('"' * 256)):
        with pytest.raises(KeyInvalid):
            parse_key(header, strict=False)


def test_strict_syntax_refuses_a_bare_key():
    with pytest.raises(KeyInvalid):
        parse_key("abc", strict=True)


def test_an_absent_header_is_missing_not_invalid():
    with pytest.raises(KeyMissing):
        parse_key(None, strict=False)


@pytest.mark.parametrize(("header", "seconds"), [(None, 7), ("3600", 3600), (" 86400\t", 86400), ("2592000", 2592000)])
def test_the_ttl_is_the_headers_value_or_the_default(header, seconds):
    assert parse_ttl(header, 7) == seconds


@pytest.mark.parametrize(
    "header", ["", "3599", "2592001", "-3600", "+3600", "3600.0", "1e4", "٣٦٠٠", "3_600", "9" * 5000, "a"]
)
def test_any_other_ttl_is_refused(header):
    with pytest.raises(TtlInvalid):
        parse_ttl(header, 7)
