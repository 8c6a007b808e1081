"""Accepting requests: new keys while jobs run, the same keys again, and new keys with the workers stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.load import new_keys, repeated_keys

if TYPE_CHECKING:
    from tests.bench.contestants import Contestant
    from tests.bench.scale import Scale


def measure_accept(contestant: Contestant, scale: Scale) -> dict[str, float]:
    """Return rates, latencies and CPU times of accepts and replays; each load lasts this time."""
    contestant.warm_up()
    finished = contestant.finished()
    load, used = contestant.send(new_keys("new"), scale.seconds)
    finished = contestant.finished() - finished
    contestant.stop_workers()
    contestant.warm_up()
    replay, replay_used = contestant.send(repeated_keys("new", load.sent), scale.seconds)
    alone, alone_used = contestant.send(contestant.new_keys(), scale.seconds)
    elapsed = load.seconds + replay.seconds + alone.seconds
    return {
        "accept_per_second": load.rate,
        "accept_p50_ms": load.latency_ms(50),
        "accept_p99_ms": load.latency_ms(99),
        "accept_api_cpu_ms": 1_000 * used.api / load.answers,
        "accept_generator_cpu_ms": 1_000 * load.cpu_per_request,
        "finished_meanwhile_per_second": finished / load.seconds,
        "replay_per_second": replay.rate,
        "replay_api_cpu_ms": 1_000 * replay_used.api / replay.answers,
        "replay_postgres_cpu_ms": 1_000 * replay_used.postgres / replay.answers,
        "accept_alone_per_second": alone.rate,
        "accept_alone_api_cpu_ms": 1_000 * alone_used.api / alone.answers,
        "accept_postgres_cpu_ms": 1_000 * alone_used.postgres / alone.answers,
        "accept_per_core_second": alone.answers / (alone_used.api + alone_used.postgres + alone_used.broker),
        "accept_other_cores": (used.others + replay_used.others + alone_used.others) / elapsed,
    }
