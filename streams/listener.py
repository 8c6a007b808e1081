"""One subscription to Redis for the whole process: what wakes the hub before its tick."""

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

# A link on which nothing came for so long is asked for a sign of life, and given up after as long again.
_SILENCE_SECONDS = 5.0
# Pauses between two attempts to subscribe: from one tick's length to what a restart of Redis takes at most.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 10.0


class Listener:
    """Tells the hub what Redis says. Without Redis the hub ticks, and nobody misses anything."""

    def __init__(self, url: str, hub: Hub) -> None:
        self._hub = hub
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._client = subscribing_client(url)

    async def run(self) -> None:
        """Subscribed whenever Redis lets us, until it is canceled."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.warning("streams.unsubscribed", error=repr(error), again_in_seconds=self._pause_seconds)
            await asyncio.sleep(self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def close(self) -> None:
        """The connection is gone."""
        await self._client.aclose()

    async def _listen(self) -> None:
        """Returns when the link has fallen silent; raises where it broke."""
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            was_asked = True  # the subscription itself is to be confirmed
            while True:
                message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
                if message is None:
                    if was_asked:
                        log.warning("streams.subscription_silent")
                        return
                    await pubsub.ping()
                    was_asked = True
                    continue
                was_asked = False
                self._heed(message["type"], message["data"])

    def _heed(self, kind: str, data: bytes) -> None:
        if kind == "subscribe":
            # What was said before is lost; everything that is watched is looked at once.
            self._pause_seconds = _FIRST_PAUSE_SECONDS
            self._hub.hints_were_lost()
            log.debug("streams.subscribed")
        elif kind == "message" and (change := decode(data)):
            self._hub.hint(change)
