"""A client of event streams that resumes after the last event, as browsers do (HTML, "Server-sent events")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID


class EventStream:
    """Collects complete events; each connection resumes after the last of them."""

    def __init__(self, api_key: str, job_id: UUID) -> None:
        self.events: list[dict[str, Any]] = []
        self.ids: list[int] = []
        self.comments = 0
        self._job_id = job_id
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {api_key}", "Accept": "text/event-stream"}, trust_env=False, timeout=30
        )

    def read(self, url: str, *, count: int | None = None) -> int:
        """Read one connection and return its status. With `count`, close it after so many events."""
        headers = {"Last-Event-ID": str(self.ids[-1])} if self.ids else {}
        address = f"{url}/v1/jobs/{self._job_id}/events"
        with self._http.stream("GET", address, headers=headers) as answer:
            for number, fields in enumerate(self._fields(answer), 1):
                self.ids.append(int(fields["id"]))
                self.events.append(json.loads(fields["data"]))
                assert (self.events[-1]["seq"], self.events[-1]["type"]) == (self.ids[-1], fields["event"])
                if number == count:
                    break
            return answer.status_code

    def close(self) -> None:
        self._http.close()

    def _fields(self, answer: httpx2.Response) -> Iterator[dict[str, str]]:
        """Yield the fields of each complete event; drop an incomplete last one."""
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                self.comments += name == ""
            else:
                if "data" in fields:
                    yield fields
                fields = {}
