"""Every value that can be encoded is decoded unchanged. The limits on a client's JSON do not bind an operation's results."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.payloads import decode_payload, encode_payload

# More than a request may hold: 300 digits, exponents of 308, no U+0000, 32 levels.
INTEGERS = st.integers() | st.builds(
    lambda sign, digits, zeros: sign * int("9" * digits + "0" * zeros),
    st.sampled_from([-1, 1]),
    st.integers(1, 2000),
    st.integers(0, 2000),
)
DECIMALS = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(-(10**20), 10**20), st.integers(-2000, 2000)
)
STRINGS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | DECIMALS | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_decoding_returns_the_encoded_value(value):
    assert decode_payload(encode_payload(value)) == value


@given(VALUES)
def test_a_value_has_one_encoded_form(value):
    assert encode_payload(decode_payload(encode_payload(value))) == encode_payload(value)


@pytest.mark.parametrize(
    "value",
    [
        "\x00",
        {"\x00": ["\x00 and more"]},
        int("7" * 400),
        -(10**4000),
        Decimal("1E-320"),
        Decimal("-1.5E-2000"),
        Decimal("12345678901234567890.1234567890123456789"),
        Decimal("0." + "3" * 700),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_result_may_hold_what_a_request_may_not(value):
    assert decode_payload(encode_payload(value)) == value


@pytest.mark.parametrize("levels", [33, 100, 400])
def test_deep_nesting_is_preserved(levels):
    value = "core"
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    assert decode_payload(encode_payload(value)) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, int),
        (1.0, int),
        (Decimal("1E+400"), int),
        (Decimal("2.50"), Decimal),
        (0.1, Decimal),
        (True, bool),
        (-0.0, int),
    ],
)
def test_whole_numbers_are_ints_and_no_number_is_a_float(value, kind):
    decoded = decode_payload(encode_payload(value))
    assert type(decoded) is kind
    assert decoded == (Decimal(repr(value)) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), Decimal("sNaN"), "\ud800", 10**5000, {1: 1}],
    ids=["NaN", "infinity", "sNaN", "surrogate", "5001 digits", "a key that is no string"],
)
def test_values_that_cannot_be_decoded_are_not_encoded(value):
    with pytest.raises((ValueError, TypeError)):
        encode_payload(value)
