"""The stored form of a response: one byte, then its headers (JSON), a line feed and its body, compressed.

The byte is the number of the dictionary that the compression started with, or 0 if the response is not compressed. A dictionary
contains what responses have in common, so that only the rest takes space: a job's document of 885 bytes takes 180. Records
live for up to 30 days: never change a dictionary, and let one release read a new one before another release writes with it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

# The most frequent text stands at the end, where references to it are shortest.
_JOBS_AND_PROBLEMS: Final = (
    b'"errors":[{"pointer":"/params/","code":"invalid","detail":"'
    b'{"type":"/problems/payload-erased","title":"","status":410,"detail":"","instance":"/v1/jobs/'
    b'{"type":"/problems/duplicate-operation","title":"","status":409,"resource":"/v1/jobs/'
    b'[["Content-Type","application/problem+json"],["Link","<'
    b'{"type":"/problems/illegal-state-transition","title":"The job\'s state does not allow this","status":409,'
    b'"detail":"The job is succeeded.","instance":"/v1/jobs/","code":"illegal-state-transition","request_id":"",'
    b'"retryable":false}],["Stripe-Should-Retry","false"],["X-Should-Retry","false"]]\n'
    b'"state":"running","state":"succeeded","state":"failed","state":"canceled","state":"unknown",'
    b'"artifacts":[{"name":"report.pdf","content_type":"application/pdf","size":,"url":"/v1/jobs//artifacts/report.pdf"}],'
    b'"effects":[{"name":"charge","state":"done","key":"semel-01-charge-1"}],"error":{"code":"operation-failed","detail":"'
    b'"priority":"high","priority":"low","operation":"databases.provision","operation":"databases.drop","operation":"sleep",'
    b'"operation":"reports.generate","operation":"payments.refund","params":{"charge":"ch_","seconds":,"customer":"cus_"'
    b'[["Content-Type","application/json"],["Location","/v1/jobs/01"],["Retry-After","1"]]\n'
    b'{"id":"01","object":"job","operation":"payments.charge","state":"queued","params":{"amount":1999,"currency":"usd",'
    b'"currency":"eur","description":"","source":"tok_"},"metadata":{"order_id":""},"attempt":0,"attempts_left":5,'
    b'"progress":null,"result":null,"error":null,"priority":"default","created_at":"2026-12-01T00:00:00.000Z",'
    b'"run_at":"2026-12-01T00:00:00.000Z","started_at":null,"finished_at":null,"deadline":null,"cancel_requested_at":null,'
    b'"concurrency_key":null,"idempotency_key":"","artifacts":[],"effects":[],"links":{"self":"/v1/jobs/01",'
    b'"events":"/v1/jobs/01/events","wait":"/v1/jobs/01?wait=30","cancel":"/v1/jobs/01/cancel"}}'
)
DICTIONARIES: Final[Mapping[int, bytes]] = MappingProxyType({1: _JOBS_AND_PROBLEMS})
_CURRENT: Final = 1
_PLAIN: Final = 0
# Of 12 us per response, and the last 2 % of its size would take another 3 us.
_LEVEL: Final = 3
_WINDOW_BITS: Final = 12  # dictionary and document fit into 4 KiB; a larger window costs time to set up
_MEMORY_LEVEL: Final = 5


class ResponseContent(NamedTuple):
    """What is stored of a response besides its status. No body: it was too large to store."""

    headers: Sequence[tuple[str, str]]
    body: bytes | None


def encode_response(content: ResponseContent) -> bytes:
    """Return the stored form."""
    headers = json.dumps(content.headers, separators=(",", ":")).encode()
    plain = headers if content.body is None else headers + b"\n" + content.body
    compressor = zlib.compressobj(
        _LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, DICTIONARIES[_CURRENT]
    )
    compressed = compressor.compress(plain) + compressor.flush()
    return bytes([_CURRENT]) + compressed if len(compressed) < len(plain) else bytes([_PLAIN]) + plain


def decode_response(stored: bytes) -> ResponseContent:
    """Return what was stored. Raises ValueError for a dictionary that this release does not know."""
    number, data = stored[0], stored[1:]
    if number != _PLAIN:
        if number not in DICTIONARIES:
            raise ValueError(f"The stored response needs dictionary {number}, which this release does not know.")
        data = zlib.decompressobj(-zlib.MAX_WBITS, DICTIONARIES[number]).decompress(data)
    # JSON as it is written above contains no line feed.
    headers, line_feed, body = data.partition(b"\n")
    return ResponseContent([(name, value) for name, value in json.loads(headers)], body if line_feed else None)
