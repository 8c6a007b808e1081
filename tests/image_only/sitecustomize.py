"""Imported by every Python that finds it: hide the packages of development that the image's libraries would use if they could.

`tests.support.stack` puts this folder on the path of its processes. They then import what a deployment imports, and each start
costs a fifth less of a processor.
"""

from __future__ import annotations

import sys

# redis imports the SDK of OpenTelemetry, djangorestframework imports requests and pygments, structlog imports rich.
HIDDEN = (
    "opentelemetry.sdk",
    "opentelemetry.exporter",
    "opentelemetry.instrumentation",
    "pygments",
    "requests",
    "rich",
)


class Hidden:
    """The finder that knows of these packages that they are absent."""

    @staticmethod
    def find_spec(name: str, *_others: object) -> None:
        """Raise for a hidden package; otherwise leave the search to the next finder."""
        if name in HIDDEN or name.startswith(tuple(f"{hidden}." for hidden in HIDDEN)):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hidden)
