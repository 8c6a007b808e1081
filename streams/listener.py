"""The process's one subscription to Redis, which passes wake-ups to the hub."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from broker.client import subscribing_client
from broker.wakeups import CHANNEL, decode

if TYPE_CHECKING:
    from streams.hub import Hub

log = structlog.get_logger(__name__)

# If no message arrives for this time, send a ping. If nothing arrives for the same time again, close the connection.
_SILENCE_SECONDS = 5.0
# Pauses between two attempts to subscribe: from half a poll to the longest restart of Redis.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 10.0


class Listener:
    """Passes wake-ups from Redis to the hub. Without Redis the hub's own poll finds every change."""

    def __init__(self, url: str, hub: Hub) -> None:
        self._hub = hub
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._client = subscribing_client(url)

    async def run(self) -> None:
        """Keep subscribed until canceled."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.warning("streams.unsubscribed", error=repr(error), retry_in_seconds=self._pause_seconds)
            await asyncio.sleep(self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def close(self) -> None:
        await self._client.aclose()

    async def _listen(self) -> None:
        """Return when the connection has fallen silent; raise when it breaks."""
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            awaits_reply = True  # to the subscription, later to a ping
            while True:
                message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
                if message is not None:
                    awaits_reply = False
                    self._handle(message["type"], message["data"])
                elif awaits_reply:
                    log.warning("streams.subscription_silent")
                    return
                else:
                    await pubsub.ping()
                    awaits_reply = True

    def _handle(self, kind: str, data: bytes) -> None:
        if kind == "subscribe":
            # Earlier wake-ups may be lost, so every watched job must be read once.
            self._pause_seconds = _FIRST_PAUSE_SECONDS
            self._hub.poll_soon()
            log.debug("streams.subscribed")
        elif kind == "message":
            for change in decode(data):
                self._hub.hint(change)
