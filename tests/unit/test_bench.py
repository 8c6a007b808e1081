"""What the benchmark makes of bytes and numbers."""

from __future__ import annotations

import re

import pytest

from tests.bench.figures import FIGURES
from tests.bench.load import (
    RETRY_AFTER_KEYS,
    Endpoint,
    LoadResult,
    half_retries,
    new_keys,
    parse_response,
    percentile,
    repeated_keys,
)
from tests.bench.plot import write_charts
from tests.bench.report import render
from tests.bench.results import Results

ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nserver: granian\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(("answer", "status"), [(ANSWER, 202), (CHUNKED, 409)])
def test_an_answer_has_a_status_once_it_is_complete(answer, status):
    assert parse_response(answer) == status
    assert {parse_response(answer[:length]) for length in range(len(answer))} == {None}


def test_a_request_ends_with_its_key_and_its_body():
    before, after = Endpoint(port=8000, path="/jobs", headers={"Authorization": "Bearer key"}, body=b"{}").parts()
    assert (before + b"key-1" + after).decode().split("\r\n") == [
        "POST /jobs HTTP/1.1",
        "Host: 127.0.0.1:8000",
        "Content-Type: application/json",
        "Authorization: Bearer key",
        "Content-Length: 2",
        "Idempotency-Key: key-1",
        "",
        "{}",
    ]


def test_repeated_keys_are_the_new_ones_again():
    new, repeated = new_keys("a"), repeated_keys("a", 2)
    assert [next(new) for _ in range(3)] == [b"a-0", b"a-1", b"a-2"]
    assert [next(repeated) for _ in range(3)] == [b"a-0", b"a-1", b"a-0"]


def test_half_of_the_requests_repeat_an_earlier_key():
    keys = half_retries("a")
    sent = [next(keys) for _ in range(4 * RETRY_AFTER_KEYS)]
    assert len(set(sent[-RETRY_AFTER_KEYS:])) == RETRY_AFTER_KEYS
    second_half = sent[2 * RETRY_AFTER_KEYS :]
    retries = [key for at, key in enumerate(sent) if at >= 2 * RETRY_AFTER_KEYS and key in sent[:at]]
    assert len(retries) == len(second_half) / 2


def test_a_percentile_is_one_of_the_values():
    assert [percentile([4, 1, 3, 2], percent) for percent in (0, 50, 99)] == [1, 3, 4]
    assert percentile([], 50) == 0


def test_a_refusal_is_no_accept():
    assert LoadResult(statuses={202: 5, 429: 2, 500: 1}).refused == 3


def test_the_table_compares_medians_with_targets(tmp_path):
    results = Results({"cpu": "any"})
    for rate in (100, 900, 300):
        results.add("semel", {"accept_per_second": rate, "accept_alone_api_cpu_ms": 1.5})
    results.add("naive", {"accept_per_second": 100.0})
    results.write(tmp_path / "results.json")
    text, is_met = render(Results.read(tmp_path / "results.json").medians())
    [accepted] = [line for line in text.splitlines() if "accepted, new keys" in line]
    assert [cell.strip() for cell in accepted.split("|")[2:-1]] == ["300", "100", "3.00 x naive (≥ 2: met)"]
    assert "≤ 0.9: missed" in text
    assert not is_met


def test_a_table_without_a_missed_target_is_met():
    assert render({"semel": {"start_p50_ms": 5.0}})[1]


def test_a_rate_near_the_generators_capacity_is_reported():
    generator = {"generator_per_second": 1_000.0, "generator_cpu_ms": 0.01}
    assert "WARNING" not in render({"generator": generator, "semel": {"replay_per_second": 600.0}})[0]
    assert "WARNING: Semel: replay" in render({"generator": generator, "semel": {"replay_per_second": 800.0}})[0]


def test_each_figure_has_one_line():
    keys = [figure.key for figure in FIGURES]
    assert len(keys) == len(set(keys))


def test_a_chart_has_a_bar_for_each_contestant(tmp_path):
    medians = {"semel": {"accept_per_second": 1_200.0}, "naive": {"accept_per_second": 300.0}, "celery": {}}
    [file] = write_charts(tmp_path, medians)
    chart = file.read_text()
    bars = re.findall(r'<rect class="([\w ]+)".* width="([\d.]+)"', chart)
    texts = re.findall(r"<text .*>(.+)</text>", chart)
    assert bars == [("bar ours", "400.0"), ("bar", "100.0")]
    assert texts[1:] == ["Semel", "1,200", "naive", "300"]
