"""How many messages wait in the broker's queues."""

from collections.abc import Mapping, Sequence

from broker.client import redis_client, try_redis

# A list that never exists.
_NO_LIST = "semel:no-list"


def queue_lengths(queues: Sequence[str]) -> Mapping[str, int] | None:
    """Return the number of messages in each queue; None if the broker is down, hung, full or a replica. Never raises for it.

    One round trip, and none while the breaker is open. LPUSHX writes nothing because its list does not exist, but a broker
    that is full or a replica refuses it like any other write: then the sweep marks no job as published in vain.
    """
    pipeline = redis_client().pipeline(transaction=False)
    for queue in queues:
        pipeline.llen(queue)
    pipeline.lpushx(_NO_LIST, "")
    answers = try_redis(pipeline.execute, event="broker.unavailable")
    return None if answers is None else dict(zip(queues, answers[:-1], strict=True))
