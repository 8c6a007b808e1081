"""Secrets are masked wherever they occur; other values are shown unchanged."""

from __future__ import annotations

from decimal import Decimal
from time import perf_counter

import pytest

from jobs.payloads import encode_payload
from operators.masking import MASK, MAX_SHOWN, format_payload, format_value, mask, mask_text

SECRET = "hunter2"


@pytest.mark.parametrize(
    "name",
    [
        *("source", "token", "secret", "password", "card", "dsn", "iban", "cvc", "authorization", "cookie"),
        *("cardToken", "CARD_NUMBER", "client_secret", "x-api-key", "apiKey", "webhookSecret", "db_passwd"),
    ],
)
@pytest.mark.parametrize("value", [SECRET, 4242, [SECRET], {"deeper": SECRET}, None])
def test_a_value_under_a_masked_name_is_masked_as_a_whole(name, value):
    assert mask({"outer": [{name: value}]}) == {"outer": [{name: MASK}]}


def test_other_values_are_unchanged():
    value = {"amount": 1999, "rate": Decimal("0.10"), "on": True, "none": None, "words": ["a", "b"]}
    assert mask(value) == value


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to postgres://semel:{SECRET}@db/semel",
        f"refused: password={SECRET}, try again",
        f'the answer was {{"client_secret": "{SECRET}"}}',
        f"sent Authorization: Bearer {SECRET}",
        f"key live_0123456789abcdef_{SECRET} is revoked",
        f"GET /v1/charges?api_key={SECRET}&limit=1",
    ],
)
def test_a_secret_within_a_text_is_masked(text):
    assert SECRET not in mask_text(text)
    assert SECRET not in format_value({"detail": text})


def test_a_text_about_secrets_is_unchanged():
    assert mask_text("The card was declined by its issuer.") == "The card was declined by its issuer."


def test_the_masked_names_are_a_setting(settings):
    settings.ADMIN_MASKED_NAMES = ["colour"]
    assert mask({"Colour": "red", "token": "t"}) == {"Colour": MASK, "token": "t"}
    settings.ADMIN_MASKED_NAMES = []
    assert mask_text("token=t") == "token=t"


def test_numbers_keep_their_digits():
    sent = {"large": 2**70, "exact": Decimal("1.50"), "text": "é", "empty": {}, "list": [1, []]}
    lines = [
        *("{", '  "large": 1180591620717411303424,', '  "exact": 1.50,', '  "text": "é",', '  "empty": {},'),
        *('  "list": [', "    1,", "    []", "  ]", "}"),
    ]
    assert format_value(sent) == "\n".join(lines)


def test_no_value_is_distinguished_from_null():
    assert format_payload(None) is None
    assert format_payload(encode_payload(None)) == "null"


def test_a_long_value_is_cut():
    text = format_value(["x" * 100_000])
    assert len(text) < MAX_SHOWN + 100
    assert text.endswith("more characters")


def test_the_largest_payload_is_masked_quickly():
    """Each text has the maximum length and many parts that start like a masked name, to provoke backtracking."""
    hostile = [("card" * 64_000)[:256_000], "a" * 256_000, "card_" * 50_000, "token=" * 40_000]
    began = perf_counter()
    for text in hostile:
        mask_text(text)
    assert perf_counter() - began < 10
