"""JSON out, by orjson. In goes through `idempotency.parsers`, which keeps numbers exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from rest_framework.renderers import BaseRenderer

if TYPE_CHECKING:
    from collections.abc import Mapping


class OrjsonRenderer(BaseRenderer):
    """UTF-8 JSON. Raises TypeError for what it does not know, where DRF's own would guess."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,  # noqa: ANN401 - any JSON value
        accepted_media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        renderer_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> bytes:
        """The bytes of the document; none for None."""
        return b"" if data is None else orjson.dumps(data)
