"""Sure signs that a process does its work."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from celery import Celery

from devstack.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_SECONDS = 5.0
_PONG_SECONDS = 0.5


def answers(port: int, path: str, *, key: str | None = None) -> Callable[[], bool]:
    """A check: the server at this port answers the path with 2xx, to the bearer of the key where it wants one."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def check() -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_SECONDS)
        try:
            connection.request("GET", path, headers=headers)
            return 200 <= connection.getresponse().status < 300  # noqa: PLR2004 - 2xx
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


def takes_orders(redis_url: str, name: str) -> Callable[[], bool]:
    """A check: the Celery worker of this name answers a ping, as ``celery inspect ping`` sends it."""
    app = Celery("launcher", broker=redis_url, set_as_current=False)

    def check() -> bool:
        replies = app.control.ping(timeout=_PONG_SECONDS, pattern=f"{name}@*", matcher="glob", limit=1)
        return any(node.startswith(f"{name}@") for reply in replies or [] for node in reply)

    return check
