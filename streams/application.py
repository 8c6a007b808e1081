"""The ASGI application for long polls and event streams. It passes all other requests to Django."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from django.conf import settings
from django.urls import Resolver404, resolve

from api.conditional_requests import is_not_modified
from api.content_negotiation import EVENT_STREAM
from jobs.signals import wait_ended, wait_started
from streams.database_threads import BatchReader, DatabaseThreads
from streams.hub import Hub
from streams.rendering import render_events, render_jobs
from streams.request_gate import URLCONF, CompleteResponse, EventStream, LongPoll, RequestGate
from streams.waiter import ClientGone, Waiter

if TYPE_CHECKING:
    from streams import Application, Receive, Scope, Send
    from streams.rendering import RenderedEvents

log = structlog.get_logger(__name__)

# Jobs per statement in reads for waiting requests.
_JOBS_AT_ONCE = 200
# Milliseconds before a stream's client reconnects; random, so that not all clients of an ended process reconnect at once.
_RECONNECT_MS = (1_000, 3_000)
_KEEPALIVE = b":\n\n"


class WaitingApplication:
    """Serves requests that may wait, and passes all others to `plain`. An open request costs a coroutine and no thread."""

    def __init__(self, plain: Application) -> None:
        self._plain = plain
        self._gate_threads = DatabaseThreads(settings.STREAMS_THREADS, "gate")
        # The reader has its own thread, so that many new requests do not delay waiting requests.
        self._reader_threads = DatabaseThreads(1, "reader")
        self._gate = RequestGate(self._gate_threads)
        self.hub = Hub(
            threads=self._reader_threads,
            poll_seconds=settings.STREAMS_POLL_SECONDS,
            reauth_seconds=settings.STREAMS_REAUTH_SECONDS,
        )
        self._jobs = BatchReader(render_jobs, threads=self._reader_threads, limit=_JOBS_AT_ONCE)
        self._events = BatchReader(render_events, threads=self._reader_threads, limit=_JOBS_AT_ONCE)
        self._open = 0

    def close(self) -> None:
        """Start no more work in threads."""
        self._gate_threads.close()
        self._reader_threads.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        job_id = _job_to_wait_for(scope)
        if job_id is None:
            await self._plain(scope, receive, send)
            return
        waiter = Waiter(receive, send, settings.STREAMS_SEND_TIMEOUT_SECONDS)
        self._open += 1
        try:
            # Watch before the first read, so that a commit between the two is noticed.
            with self.hub.watch(job_id, waiter):
                await self._serve(scope, waiter)
        except ClientGone:
            return
        finally:
            self._open -= 1

    async def _serve(self, scope: Scope, waiter: Waiter) -> None:
        clock = asyncio.get_running_loop().time
        started_at = clock()
        match await self._gate.admit(scope, is_full=self._open > settings.STREAMS_MAX_WAITS):
            case CompleteResponse() as response:
                await _send_response(waiter, response)
            case LongPoll() as poll:
                with _waiting(waiter, poll, "wait"):
                    ends_at = started_at + poll.seconds
                    while not (waiter.must_end or waiter.position.is_settled or clock() >= ends_at):
                        await waiter.sleep(ends_at)
                    await _send_response(waiter, await self._answer(scope, waiter, poll))
            case EventStream() as stream:
                with _waiting(waiter, stream, "stream"):
                    await self._stream(waiter, stream)

    async def _answer(self, scope: Scope, waiter: Waiter, poll: LongPoll) -> CompleteResponse:
        """Return the job as it is now, read in a batch; if that is not possible, return the api's own response."""
        job = None
        if self.hub.is_closing or not waiter.must_end:  # otherwise its API key was revoked
            try:
                job = await self._jobs.get(poll.job_id)
            except Exception as error:
                log.warning("streams.read_failed", exc_info=error)
        if job is None:
            return await self._gate.respond_now(scope)
        own = [(name.lower().encode(), value.encode()) for name, value in job.headers.items()]
        own.append((b"etag", job.tag.encode()))
        if is_not_modified(job.tag, poll.if_none_match):
            rest = [header for header in poll.headers if header[0] != b"content-type"]
            return CompleteResponse(304, [*rest, *own], b"")
        length = (b"content-length", b"%d" % len(job.body))
        return CompleteResponse(200, [*poll.headers, *own, length], job.body)

    async def _stream(self, waiter: Waiter, stream: EventStream) -> None:
        """Send every event after `stream.after` once and in order, until the job or the request ends.

        The number of the last event sent is the only state: the next events are always read, never buffered for a client
        that does not read. So a lost, repeated or late wake-up changes nothing.
        """
        await waiter.send({"type": "http.response.start", "status": 200, "headers": stream.headers})
        await _send_part(waiter, b"retry: %d\n\n" % random.randint(*_RECONNECT_MS))  # noqa: S311 - not a secret
        clock, sent = asyncio.get_running_loop().time, stream.after
        keepalive_at = clock() + settings.SSE_KEEPALIVE_SECONDS
        while not waiter.must_end:
            if clock() >= keepalive_at:
                await _send_part(waiter, _KEEPALIVE)
                keepalive_at = clock() + settings.SSE_KEEPALIVE_SECONDS
            if waiter.position.seq > sent:
                if events := await self._read_events(waiter, stream.job_id, sent):
                    await _send_part(waiter, events.body)
                    sent, keepalive_at = events.last, clock() + settings.SSE_KEEPALIVE_SECONDS
                elif waiter.position.state is None:
                    break
            elif waiter.position.is_over:
                break
            else:
                await waiter.sleep(keepalive_at)
        await _send_part(waiter, b"", is_last=True)

    async def _read_events(self, waiter: Waiter, job_id: UUID, after: int) -> RenderedEvents | None:
        """Return None, after a pause, while the database fails: the stream stays open, as browsers give up after a 503."""
        try:
            if events := await self._events.get((job_id, after)):
                return events
        except Exception as error:
            log.warning("streams.read_failed", exc_info=error)
        await waiter.sleep(asyncio.get_running_loop().time() + settings.STREAMS_POLL_SECONDS)
        return None


def _job_to_wait_for(scope: Scope) -> UUID | None:
    """Return the job that the request may wait for, None for a plain request. The view checks the details."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return None
    query: bytes = scope["query_string"]
    has_wait = b"wait" in query
    accepts_stream = any(
        name == b"accept" and EVENT_STREAM.encode() in value.lower() for name, value in scope["headers"]
    )
    # Our queries are ASCII; Django has its own response to any other.
    if not (has_wait or accepts_stream) or not query.isascii():
        return None
    try:
        match = resolve(scope["path"], URLCONF)
    except Resolver404:
        return None
    job_id: UUID = match.kwargs["job_id"]
    return job_id if (accepts_stream if match.url_name == "event-stream" else has_wait) else None


@contextmanager
def _waiting(waiter: Waiter, pending: LongPoll | EventStream, kind: str) -> Iterator[None]:
    """Start the waiter, and signal begin and end of the wait for metrics."""
    waiter.start(pending.position, key_id=pending.key_id)
    log.debug("streams.waiting", job_id=str(pending.job_id))
    began_at = time.monotonic()
    wait_started.send_robust(sender=None, kind=kind)
    try:
        yield
    finally:
        wait_ended.send_robust(sender=None, kind=kind, seconds=time.monotonic() - began_at)


async def _send_response(waiter: Waiter, response: CompleteResponse) -> None:
    await waiter.send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await _send_part(waiter, response.body, is_last=True)


async def _send_part(waiter: Waiter, body: bytes, *, is_last: bool = False) -> None:
    await waiter.send({"type": "http.response.body", "body": body, "more_body": not is_last})
