"""The base of the API's views: DRF's view, without what DRF makes again for each request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from rest_framework.views import APIView

# The methods that each class of views allows, for the header `Allow`.
_allowed_methods: dict[type[APIView], list[str]] = {}
_shared: dict[Callable[[], Any], Any] = {}


class ApiView(APIView):
    """Shares parsers, renderers, authenticators, permissions and negotiators between requests: they keep no state."""

    def get_parsers(self) -> list[Any]:
        return [_instance(one) for one in self.parser_classes]

    def get_renderers(self) -> list[Any]:
        return [_instance(one) for one in self.renderer_classes]

    def get_authenticators(self) -> list[Any]:
        return [_instance(one) for one in self.authentication_classes]

    def get_permissions(self) -> list[Any]:
        return [_instance(one) for one in self.permission_classes]

    def get_content_negotiator(self) -> Any:  # noqa: ANN401 - DRF's type
        return _instance(self.content_negotiation_class)

    def get_throttles(self) -> list[Any]:
        """Return new ones, because a throttle keeps the wait of its request; none where no limit is set."""
        return super().get_throttles() if settings.RATE_LIMIT_PER_SECOND else []

    @property
    def allowed_methods(self) -> list[str]:
        known = _allowed_methods.get(type(self))
        if known is None:
            known = _allowed_methods[type(self)] = super().allowed_methods
        return known


def _instance(one: Callable[[], Any]) -> Any:  # noqa: ANN401
    known = _shared.get(one)
    if known is None:
        known = _shared[one] = one()
    return known
