"""The stored form of a response returns the same bytes, in this release and in later ones."""

from __future__ import annotations

import hashlib
import json
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idempotency.response_format import DICTIONARIES, ResponseContent, decode_response, encode_response

HEADERS = [("Content-Type", "application/json"), ("Location", "/v1/jobs/01a22f5c-9de3-749e-97d5-5e77d79bb912")]
JOB = (
    b'{"id":"01a22f5c-9de3-749e-97d5-5e77d79bb912","object":"job","operation":"payments.charge","state":"queued",'
    b'"params":{"amount":6731,"currency":"eur","description":"Order 94370016","source":"tok_bb15e1acaf6a4ee1"},'
    b'"metadata":{"cart":"c-193745","order_id":"ord_964611199"},"attempt":0,"attempts_left":5,"progress":null,"result":null,'
    b'"error":null,"priority":"default","created_at":"2026-12-01T02:08:48.613Z","run_at":"2026-12-01T02:08:48.613Z",'
    b'"started_at":null,"finished_at":null,"deadline":null,"cancel_requested_at":null,"concurrency_key":null,'
    b'"idempotency_key":"2ae705bf-2689-4587-9e20-d063ff245c53","artifacts":[],"effects":[],"links":'
    b'{"self":"/v1/jobs/01a22f5c-9de3-749e-97d5-5e77d79bb912","events":"/v1/jobs/01a22f5c-9de3-749e-97d5-5e77d79bb912/events",'
    b'"wait":"/v1/jobs/01a22f5c-9de3-749e-97d5-5e77d79bb912?wait=30",'
    b'"cancel":"/v1/jobs/01a22f5c-9de3-749e-97d5-5e77d79bb912/cancel"}}'
)
# What each version has written: a record that was stored by it must still be replayed. Add lines, never change one.
WRITTEN = {
    0: (b'\x00[["ETag","\\"1\\""]]\nab\ncd', ResponseContent([("ETag", '"1"')], b"ab\ncd")),
    1: (
        bytes.fromhex(
            "01a32839271a19a59926eb5aa6a41aeb9a9b58a6ea5a9aa798ea9aa69a9ba7985b2625591a1aa124ee44236c2916964e4d8c4c8c6a01"
        ),
        ResponseContent(HEADERS, b'{"id":"01a2","state":"queued","amount":4242}'),
    ),
}
DIGESTS = {1: "62bb8c7b9dd079c5dc89141788e06e1873dbb2713913a23e2c7d51b48cf53598"}


def test_a_dictionary_is_never_changed():
    assert {number: hashlib.sha256(text).hexdigest() for number, text in DICTIONARIES.items()} == DIGESTS


@pytest.mark.parametrize("number", [0, *DICTIONARIES])
def test_what_an_earlier_release_stored_is_read(number):
    stored, content = WRITTEN[number]
    assert stored[0] == number
    assert decode_response(stored) == content


@given(
    st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=4),
    st.none() | st.binary(max_size=2_000) | st.just(JOB),
)
def test_a_response_is_read_as_it_was_written(headers, body):
    assert decode_response(encode_response(ResponseContent(headers, body))) == ResponseContent(headers, body)


@pytest.mark.parametrize("body", [None, b"", b"\n", b"x" * 1_000_000, os.urandom(100_000), JOB * 1000])
def test_a_body_of_any_size_is_read_as_it_was_written(body):
    assert decode_response(encode_response(ResponseContent(HEADERS, body))).body == body


def test_a_typical_response_takes_a_fifth_of_its_size():
    assert len(encode_response(ResponseContent(HEADERS, JOB))) < (len(JOB) + len(json.dumps(HEADERS))) / 5


def test_what_cannot_be_compressed_grows_by_one_byte():
    body = os.urandom(10_000)
    assert len(encode_response(ResponseContent([], body))) == len(b"0[]\n") + len(body)


def test_an_unknown_dictionary_is_an_error():
    with pytest.raises(ValueError, match="dictionary 200"):
        decode_response(b"\xc8" + zlib.compress(b"[]"))
