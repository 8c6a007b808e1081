"""What is said of an endpoint, and what many of them have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.serializers import Serializer

    # By method and path.
    Table = Mapping[tuple[str, str], "Endpoint"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer that is no problem."""

    description: str
    # The component that its JSON is; None where there is no body.
    schema: str | None = None
    example: object = None
    # Other content than JSON by media type, as JSON Schema.
    other: Mapping[str, Any] | None = None
    # Components of `headers.RESPONSE`.
    headers: tuple[str, ...] = ()
    # Endpoints by their ids where the client goes on, with what is in the answer.
    links: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method of one address."""

    id: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    # Slugs of the catalogue; statuses, titles and headers follow from them.
    problems: tuple[str, ...]
    description: str = ""
    query: type[Serializer[Any]] | None = None
    # A form, or "submission": one form for each operation.
    body: type[Serializer[Any]] | Literal["submission"] | None = None
    # In place of a form: JSON Schema of what others send us.
    body_schema: Mapping[str, Any] | None = None
    body_example: object = None
    # What a form checks between its members, as JSON Schema.
    body_rules: Mapping[str, Any] = field(default_factory=dict)
    # Components of `headers.REQUEST`.
    headers: tuple[str, ...] = ()
    # Whether it needs no API key.
    is_public: bool = False


def conditional(answer: Answer) -> Mapping[int, Answer]:
    """The answer of a read, and 304 with the same headers where the client has it already."""
    headers = ("ETag", "Cache-Control", *answer.headers)
    unchanged = Answer(description="The client has it already.", headers=headers)
    return {200: replace(answer, headers=headers), 304: unchanged}


# What any request can run into (a Host header that is not ours fails the validation), and any that needs an API key.
ALWAYS = ("validation-failed", "headers-too-large", "internal-error")
PROTECTED = (*ALWAYS, "unauthenticated", "rate-limited", "not-acceptable", "service-unavailable")
# What can be wrong with a body, and with a key.
BODY = ("malformed-json", "unsupported-media-type", "payload-too-large")
KEYED = (
    "idempotency-key-invalid",
    "idempotency-key-reused",
    "idempotency-request-in-progress",
    "payload-erased",
)
ANSWERED_UNDER_KEY = ("Idempotency-Replayed", "Idempotency-Expires", "Idempotency-Body-Omitted")
# Where the client goes on from a job.
OF_THE_JOB = ("readJob", "listEvents", "cancelJob", "redriveJob")
