"""The ASGI face of waiting: who may wait is let in, held, and answered when it is time; everything else goes to Django."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.urls import Resolver404, resolve

from api.conditional_requests import is_known
from api.negotiation import EVENT_STREAM
from jobs.signals import hold_began, hold_ended
from streams.batch import Batch
from streams.hub import Hub
from streams.pending_responses import JobHold
from streams.rendering import render_events, render_jobs
from streams.request_gate import URLCONF, Admission, Answer
from streams.threads import Threads
from streams.waiter import ClientGone, Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from streams.pending_responses import Header, StreamHold
    from streams.protocol import Application, Receive, Scope, Send
    from streams.rendering import RenderedEvents, RenderedJob

log = structlog.get_logger(__name__)

# Jobs that one statement reads for those who wait for them.
_JOBS_AT_ONCE = 200
# Milliseconds after which a stream's client comes back; not all at once, when a process has ended.
_RETRY_MS = (1_000, 3_000)
_COMMENT = b":\n\n"


class WaitingApplication:
    """Requests that may wait, and `plain` for all the others. Of an open one there is a coroutine and a `Waiter`: no thread."""

    def __init__(self, plain: Application) -> None:
        self._plain = plain
        self._entrance = Threads(settings.STREAMS_THREADS, "entrance")
        # One of its own, so that a crowd at the entrance does not keep those inside from being woken.
        self._reader = Threads(1, "reader")
        self._admission = Admission(self._entrance)
        self.hub = Hub(
            threads=self._reader,
            tick_seconds=settings.STREAMS_POLL_SECONDS,
            recheck_seconds=settings.STREAMS_REAUTH_SECONDS,
        )
        self._jobs = Batch(render_jobs, threads=self._reader, limit=_JOBS_AT_ONCE)
        self._events = Batch(render_events, threads=self._reader, limit=_JOBS_AT_ONCE)
        self._open = 0

    def close(self) -> None:
        """No thread begins anything more."""
        self._entrance.close()
        self._reader.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        job_id = _job_waited_for(scope)
        if job_id is None:
            await self._plain(scope, receive, send)
            return
        waiter = Waiter(receive, send, send_seconds=settings.STREAMS_SEND_TIMEOUT_SECONDS)
        self._open += 1
        try:
            # First among the watchers, then the first read: nothing that is committed between the two goes unnoticed.
            with self.hub.watching(job_id, waiter):
                await self._serve(scope, waiter)
        except ClientGone:
            return
        finally:
            self._open -= 1

    async def _serve(self, scope: Scope, waiter: Waiter) -> None:
        came_at = asyncio.get_running_loop().time()
        admitted = await self._admission.admit(scope, has_room=self._open <= settings.STREAMS_MAX_WAITS)
        if isinstance(admitted, Answer):
            await _send_whole(waiter, admitted)
            return
        hold = admitted.hold
        waiter.begin(hold.position, key_id=hold.key_id)
        log.debug("streams.held", job_id=str(hold.job_id))
        with _told("wait" if isinstance(hold, JobHold) else "stream"):
            if isinstance(hold, JobHold):
                await self._wait(waiter, until=came_at + hold.seconds)
                await _send_whole(waiter, await self._answer(scope, waiter, hold, admitted.headers))
            else:
                await self._stream(waiter, hold, admitted.headers)

    async def _wait(self, waiter: Waiter, *, until: float) -> None:
        """The job has settled, the time is over, or the request is to end."""
        clock = asyncio.get_running_loop().time
        while not (waiter.must_end or waiter.position.is_settled or clock() >= until):
            await waiter.sleep(until)

    async def _answer(self, scope: Scope, waiter: Waiter, hold: JobHold, headers: list[Header]) -> Answer:
        """The job as it is now; read together with others, unless something is amiss that the api has words for."""
        is_amiss = waiter.must_end and not self.hub.is_closing
        job = None if is_amiss else await self._read(hold.job_id)
        if job is None:
            return await self._admission.answer_now(scope)
        own = [(name.lower().encode(), value.encode()) for name, value in job.headers.items()]
        own.append((b"etag", job.tag.encode()))
        if is_known(job.tag, hold.if_none_match):
            rest = [header for header in headers if header[0] != b"content-type"]
            return Answer(304, [*rest, *own], b"")
        return Answer(200, [*headers, *own, (b"content-length", b"%d" % len(job.body))], job.body)

    async def _read(self, job_id: UUID) -> RenderedJob | None:
        try:
            return await self._jobs.get(job_id)
        except Exception as error:
            log.warning("streams.read_failed", exc_info=error)
            return None

    async def _stream(self, waiter: Waiter, hold: StreamHold, headers: list[Header]) -> None:
        """Every event after `hold.after` is sent, once and in order, until the job has ended or the stream must.

        The number of the last one sent is all the state there is: what is next is always read, never kept for a client that
        does not read. So a hint that is lost, doubled or late changes nothing.
        """
        await waiter.send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_part(waiter, b"retry: %d\n\n" % random.randint(*_RETRY_MS))  # noqa: S311 - no secret
        clock, sent = asyncio.get_running_loop().time, hold.after
        comment_at = clock() + settings.SSE_KEEPALIVE_SECONDS
        while not waiter.must_end:
            if clock() >= comment_at:
                await _send_part(waiter, _COMMENT)
                comment_at = clock() + settings.SSE_KEEPALIVE_SECONDS
            if waiter.position.seq > sent:
                if events := await self._read_events(waiter, hold.job_id, sent):
                    await _send_part(waiter, events.body)
                    sent, comment_at = events.last, clock() + settings.SSE_KEEPALIVE_SECONDS
                elif waiter.position.state is None:
                    break
            elif waiter.position.is_over:
                break
            else:
                await waiter.sleep(comment_at)
        await _send_part(waiter, b"", is_last=True)

    async def _read_events(self, waiter: Waiter, job_id: UUID, after: int) -> RenderedEvents | None:
        """None, after a pause, while the database is away: a stream outlives that, for browsers do not come back after a 503."""
        try:
            if events := await self._events.get((job_id, after)):
                return events
        except Exception as error:
            log.warning("streams.read_failed", exc_info=error)
        await waiter.sleep(asyncio.get_running_loop().time() + settings.STREAMS_POLL_SECONDS)
        return None


def _job_waited_for(scope: Scope) -> UUID | None:
    """The job whose end or events the request may wait for; None where it is plain. What exactly it asks for, the view says."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return None
    query: bytes = scope["query_string"]
    asks_to_wait = b"wait" in query
    accepts_stream = any(
        name == b"accept" and EVENT_STREAM.encode() in value.lower() for name, value in scope["headers"]
    )
    # Only what is ASCII can be a query of ours; Django has its own answer to anything else.
    if not (asks_to_wait or accepts_stream) or not query.isascii():
        return None
    try:
        match = resolve(scope["path"], URLCONF)
    except Resolver404:
        return None
    is_stream = match.url_name == "event-stream"
    job_id: UUID = match.kwargs["job_id"]
    return job_id if (accepts_stream if is_stream else asks_to_wait) else None


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """Whoever counts knows that a request waits, and for how long it did."""
    began_at = time.monotonic()
    hold_began.send_robust(sender=None, kind=kind)
    try:
        yield
    finally:
        hold_ended.send_robust(sender=None, kind=kind, seconds=time.monotonic() - began_at)


async def _send_whole(waiter: Waiter, answer: Answer) -> None:
    await waiter.send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await _send_part(waiter, answer.body, is_last=True)


async def _send_part(waiter: Waiter, body: bytes, *, is_last: bool = False) -> None:
    await waiter.send({"type": "http.response.body", "body": body, "more_body": not is_last})
