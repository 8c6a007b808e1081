"""A call, and what the book says to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devstack.sandbox_provider.requests import PostRequest


@dataclass(frozen=True)
class Answer:
    """A status and the bytes that go with it."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Call:
    """A call under a key, and what came with it."""

    key: str
    request: PostRequest
    job: str | None
    fence: str | None


@dataclass(frozen=True)
class Claimed:
    """The key is this call's until it is settled or released."""

    number: int
    call: Call
    is_first: bool


@dataclass(frozen=True)
class Decision:
    """What becomes of a call: its answer, and the statements that make it true."""

    answer: Answer
    outcome: str
    write: Sequence[tuple[str, dict[str, Any]]] = ()


@dataclass(frozen=True)
class Replayed:
    """The key has its answer already."""

    answer: Answer


class KeyInUse:
    """Another call is at work under this key."""


class KeyReused:
    """The key belongs to another request."""
