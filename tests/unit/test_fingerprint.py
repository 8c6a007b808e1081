"""Fingerprints identify a request, and the members' digests show where two bodies differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation import exact_json
from idempotency.comparison import differing_members, member_digests, pack_members, unpack_members
from idempotency.errors import FingerprintUnverifiable
from idempotency.fingerprint import RequestParts, compute, current_kid, is_same, parse_keyring

REQUEST = RequestParts(method="POST", path="/v1/jobs", query="a=1", document={"amount": 1})


@pytest.fixture(autouse=True)
def _keys(settings):
    settings.IDEMPOTENCY_FINGERPRINT_KEYS = ["k2:the newer secret", "k1:the older secret"]


def fingerprint(parts, kid="k2"):
    return compute(parts, version=1, kid=kid)


def differing(first, second):
    return differing_members(member_digests(first, "k2"), second, "k2")


# --- The request as a whole
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"path": "/v1/job"},
        {"query": "a=2"},
        {"query": "a=1&a=1"},
        {"query": ""},
        {"document": {"amount": 2}},
        {"document": {"amount": "1"}},
        {"document": {"amount": True}},
        {"document": None},
        {"document": []},
    ],
    ids=str,
)
def test_a_change_in_any_part_changes_the_fingerprint(change):
    assert fingerprint(replace(REQUEST, **change)) != fingerprint(REQUEST)


@pytest.mark.parametrize("body", [b'{"amount": 1.0}', b'{ "amount" : 1e0 }', b'{"\\u0061mount":1}'])
def test_another_spelling_of_the_body_keeps_the_fingerprint(body):
    assert fingerprint(replace(REQUEST, body=body, document=exact_json.loads(body))) == fingerprint(REQUEST)


def test_moving_a_byte_between_parts_changes_the_fingerprint():
    one = RequestParts(method="POST", path="/ab", query="", content_type="text/c", body=b"d")
    for other in (
        replace(one, path="/a", content_type="btext/c"),
        replace(one, content_type="text/", body=b"cd"),
        replace(one, method="POST/", path="ab"),
    ):
        assert fingerprint(one) != fingerprint(other)


def test_names_in_the_query_are_sorted_but_the_values_of_one_name_keep_their_order():
    def of(query):
        return fingerprint(replace(REQUEST, query=query))

    assert of("b=2&a=1&c") == of("c=&a=1&b=2") == of("%61=1&b=2&c=")
    assert of("a=1&a=2") != of("a=2&a=1")
    assert of("a=%FF") != of("a=%FE") != of("a=%EF%BF%BD")
    assert of("a=1%26b=2") != of("a=1&b=2")


def test_a_body_that_is_not_json_counts_by_its_bytes_and_type():
    upload = RequestParts(method="POST", path="/", content_type="text/csv", body=b"1,0")
    assert fingerprint(upload) != fingerprint(replace(upload, body=b"1,0 "))
    assert fingerprint(upload) != fingerprint(replace(upload, content_type="text/plain"))
    assert fingerprint(upload) != fingerprint(replace(upload, document=exact_json.loads(b'"1,0"')))


def test_without_a_body_the_content_type_does_not_matter():
    empty = RequestParts(method="POST", path="/")
    assert fingerprint(empty) == fingerprint(replace(empty, content_type="application/json"))


def test_version_1_never_changes():
    # A stored record must stay comparable across deploys.
    assert fingerprint(REQUEST).hex() == "93fd84a39a3afd7cb0810122a4db542455d5af620a5b42e26ac7bdba74aeb082"


def test_a_fingerprint_is_keyed_and_verified_under_its_own_kid():
    old = fingerprint(REQUEST, "k1")
    assert old != fingerprint(REQUEST, "k2")
    assert is_same(REQUEST, fingerprint=old, version=1, kid="k1")
    assert not is_same(REQUEST, fingerprint=old, version=1, kid="k2")
    assert current_kid() == "k2"


@pytest.mark.parametrize(("version", "kid"), [(1, "k0"), (2, "k1"), (0, "k1"), (1, "")])
def test_an_unknown_version_or_kid_raises(version, kid):
    with pytest.raises(FingerprintUnverifiable) as refused:
        is_same(REQUEST, fingerprint=b"", version=version, kid=kid)
    assert (refused.value.version, refused.value.kid) == (version, kid)
    assert "secret" not in str(vars(refused.value)).replace(refused.value.detail, "")


@pytest.mark.parametrize("entries", [(), ("k1",), ("k1:",), (":secret",), ("k1:a", "k1:b"), ("",)])
def test_a_malformed_keyring_is_refused_without_showing_secrets(entries):
    with pytest.raises(ValueError, match="fingerprint key") as refused:
        parse_keyring(entries)
    assert "k1:a" not in str(refused.value)


# --- Members
# ---------------------------------------------------------------------------------------------------------------

BODY = {"params": {"amount": 1, "to": {"iban": "x"}}, "tags": ["a"], "note": None}


@pytest.mark.parametrize(
    ("other", "pointers"),
    [
        (BODY, []),
        ({**BODY, "note": "n"}, ["/note"]),
        ({**BODY, "params": {**BODY["params"], "amount": 2}}, ["/params/amount"]),
        ({**BODY, "params": {**BODY["params"], "to": {"iban": "y"}}}, ["/params/to"]),
        ({**BODY, "params": {"amount": 1}}, ["/params/to"]),
        ({**BODY, "params": {**BODY["params"], "new": 1}}, ["/params/new"]),
        ({**BODY, "params": {}}, ["/params/amount", "/params/to"]),
        ({**BODY, "params": 7}, ["/params/amount", "/params/to"]),
        ({**BODY, "tags": ["a", "b"]}, ["/tags"]),
        ({**BODY, "new": {"a": {"b": 1}}}, ["/new/a"]),
        ({"params": BODY["params"]}, ["/note", "/tags"]),
        ([BODY], ["/note", "/params/amount", "/params/to", "/tags"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mismatch_names_the_leaf_most_members_that_differ(other, pointers):
    assert differing(BODY, other) == pointers


@pytest.mark.parametrize(
    ("first", "second", "pointers"),
    [
        ([1], [2], [""]),
        ("a", {"a": 1}, [""]),
        ({}, {"a": 1}, ["/a"]),
        ({"a": 1}, {}, ["/a"]),
        ({"p": {}}, {"p": {"a": 1}}, ["/p/a"]),
        ({"p": 1}, {"p": {"a": 1}}, ["/p"]),
        ({"a/b": {"~": 1}}, {"a/b": {"~": 2}}, ["/a~1b/~0"]),
        ({"": {"": 1}}, {"": {"": 2}}, ["//"]),
    ],
    ids=str,
)
def test_pointers_are_those_of_rfc_6901(first, second, pointers):
    assert differing(first, second) == pointers


def test_a_body_of_many_members_is_described_at_less_depth():
    many = {f"m{number}": number for number in range(65)}
    first = {"params": many, "note": 1}
    assert unpack_members(member_digests(first, "k2")).keys() == {"/params", "/note"}
    assert differing(first, {"params": {**many, "m9": 0}, "note": 1}) == ["/params"]
    assert differing(first, {"params": many, "note": 2, "a": 0}) == ["/a", "/note"]
    assert differing(many, {**many, "a": 1}) == [""]
    assert len(differing({}, many)) == 64


def test_the_digests_hold_no_value_and_differ_by_place_and_secret():
    stored = member_digests({"a": "secret", "b": "secret"}, "k2")
    digests = unpack_members(stored)
    assert b"secret" not in stored
    assert digests["/a"] != digests["/b"]
    assert digests != unpack_members(member_digests({"a": "secret", "b": "secret"}, "k1"))


def test_erased_digests_name_no_member():
    assert differing_members(None, {"a": 1}, "k2") == []


def test_members_under_a_lost_secret_raise():
    with pytest.raises(FingerprintUnverifiable):
        differing_members(member_digests({}, "k1"), {}, "k0")


json_values = st.recursive(
    st.none() | st.integers(-3, 3) | st.text("ab~/", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab~/", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_members_differ_exactly_when_the_bodies_do(first, second):
    is_equal = exact_json.dumps(first) == exact_json.dumps(second)
    assert (differing(first, second) == []) == is_equal


@given(st.sets(st.lists(st.text("ab-~", max_size=3), min_size=1, max_size=2).map(tuple), min_size=1, max_size=12))
def test_the_pointers_of_stored_digests_are_read_as_they_were_written(paths):
    digests = {f"/{'/'.join(path)}": index.to_bytes(4, "big") for index, path in enumerate(paths)}
    assert unpack_members(pack_members(digests)) == digests
