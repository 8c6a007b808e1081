"""Params of payments.charge and demo.sleep: a value of the wrong type is refused, not converted."""

from __future__ import annotations

from decimal import Decimal

import pytest

from operations.payments.charge import ChargeParams
from operations.sleep import SleepParams

ORDER = {"amount": 1999, "currency": "usd", "source": "tok_visa"}


def refused(serializer_class, params):
    """Return the refused members with their error codes."""
    serializer = serializer_class(data=params)
    serializer.is_valid()
    return {name: [error.code for error in errors] for name, errors in serializer.errors.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"amount": 1},
        {"amount": 2**53 - 1},
        {"amount": Decimal("1999.00")},
        {"source": "x"},
        {"source": "x" * 255},
        {"source": " tok visa "},
        {"description": ""},
        {"description": "Zwölf Äpfel\n🍏"},
        {"description": "x" * 500},
    ],
    ids=lambda changes: repr(changes)[:60],
)
def test_valid_params_are_accepted_unchanged(changes):
    serializer = ChargeParams(data=ORDER | changes)
    assert serializer.is_valid(), serializer.errors
    assert serializer.validated_data == ORDER | changes
    assert type(serializer.validated_data["amount"]) is int


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("amount", "1999", "invalid"),
        ("amount", True, "invalid"),
        ("amount", False, "invalid"),
        ("amount", Decimal("19.5"), "invalid"),
        ("amount", Decimal("NaN"), "invalid"),
        ("amount", 19.5, "invalid"),
        ("amount", 19.0, "invalid"),
        ("amount", None, "null"),
        ("amount", [1999], "invalid"),
        ("amount", 0, "min_value"),
        ("amount", -1999, "min_value"),
        ("currency", "USD", "invalid"),
        ("currency", "us", "invalid"),
        ("currency", "usdx", "invalid"),
        ("currency", "usd\n", "invalid"),
        ("currency", " usd", "invalid"),
        ("currency", "üsd", "invalid"),
        ("currency", "", "blank"),
        ("currency", 840, "invalid"),
        ("source", "", "blank"),
        ("source", "x" * 256, "max_length"),
        ("source", 7, "invalid"),
        ("source", Decimal("7.5"), "invalid"),
        ("source", True, "invalid"),
        ("source", None, "null"),
        ("source", {"id": "tok"}, "invalid"),
        ("source", "tok\0", "null_characters_not_allowed"),
        ("description", "x" * 501, "max_length"),
        ("description", 5, "invalid"),
        ("description", None, "null"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_invalid_params_are_refused_and_not_converted(name, value, code):
    assert refused(ChargeParams, ORDER | {name: value}) == {name: [code]}


@pytest.mark.parametrize("name", ["amount", "currency", "source"])
def test_params_of_a_charge_have_no_defaults(name):
    params = {other: value for other, value in ORDER.items() if other != name}
    assert refused(ChargeParams, params) == {name: ["required"]}


@pytest.mark.parametrize("seconds", [0, 3600, Decimal("0.1"), Decimal("1E-300")])
def test_a_duration_of_a_sleep_is_kept_exactly(seconds):
    serializer = SleepParams(data={"seconds": seconds})
    assert serializer.is_valid(), serializer.errors
    assert serializer.validated_data["seconds"] is seconds


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        ("5", "invalid"),
        (True, "invalid"),
        (0.5, "invalid"),
        (Decimal("Infinity"), "invalid"),
        (-1, "min_value"),
        (Decimal("-0.1"), "min_value"),
        (Decimal("3600.1"), "max_value"),
        (10**300, "max_value"),
        (None, "null"),
    ],
)
def test_an_invalid_sleep_is_refused(seconds, code):
    assert refused(SleepParams, {"seconds": seconds}) == {"seconds": [code]}
