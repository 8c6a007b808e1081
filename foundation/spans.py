"""Pieces of work that may be traced. None is, and that costs nothing, until the composition root says how."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Tracer(Protocol):
    """What traces."""

    def span(
        self, name: str, parent: str | None, attributes: Mapping[str, Any]
    ) -> AbstractContextManager[object]:
        """A span, open as long as the block; never raises anything of its own."""
        ...

    def traceparent(self) -> str | None:
        """What names the open span to others (W3C Trace Context)."""
        ...


_NOTHING = nullcontext()
_tracer: Tracer | None = None


def trace_with(tracer: Tracer | None) -> None:
    """From now on spans are made by this tracer; by none."""
    global _tracer  # noqa: PLW0603 - a process has one
    _tracer = tracer


def span(name: str, *, parent: str | None = None, **attributes: Any) -> AbstractContextManager[object]:  # noqa: ANN401
    """The block is a span of the trace that is open, or of the one that `parent` (a traceparent) names. Ids only: no payload."""
    return _NOTHING if _tracer is None else _tracer.span(name, parent, attributes)


def traceparent() -> str | None:
    """What to send along to whoever is called now, so that it can be found in the same trace; None where nothing is traced."""
    return None if _tracer is None else _tracer.traceparent()
