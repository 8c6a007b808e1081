"""A call, and what the book says to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.devstack.provider.requests import ChargeRequest


@dataclass(frozen=True)
class Answer:
    """A status and the bytes that go with it."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Call:
    """A call under a key, and what came with it."""

    key: str
    request: ChargeRequest
    job: str | None
    fence: str | None


@dataclass(frozen=True)
class Claimed:
    """The key is this call's until it is settled or released."""

    number: int
    call: Call
    is_first: bool


@dataclass(frozen=True)
class Replayed:
    """The key has its answer already."""

    answer: Answer


class KeyInUse:
    """Another call is at work under this key."""


class KeyReused:
    """The key belongs to another request."""
