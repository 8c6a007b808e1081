"""How many messages wait in the broker's queues."""

from collections.abc import Mapping, Sequence

from broker.client import redis_client, try_redis

# A list that never exists.
_NO_LIST = "semel:no-list"


def queue_lengths(queues: Sequence[str]) -> Mapping[str, int] | None:
    """Return the number of messages in each queue; None if the broker is down, hung, full or a replica. Never raises for it.

    Sends one round trip, or none while the breaker is open. LPUSHX tests whether Redis accepts writes: its list does not
    exist, so
    nothing is written, but a full broker or a replica returns an error. The sweep then marks no job as published.
    """
    pipeline = redis_client().pipeline(transaction=False)
    for queue in queues:
        pipeline.llen(queue)
    pipeline.lpushx(_NO_LIST, "")
    answers = try_redis(pipeline.execute, event="broker.unavailable")
    return None if answers is None else dict(zip(queues, answers[:-1], strict=True))
