"""The contestants: what is measured, each behind the same few methods."""

from tests.bench.contestants.contestant import Contestant
from tests.bench.contestants.dbos import Dbos
from tests.bench.contestants.naive import Naive, NaiveKept
from tests.bench.contestants.plain_celery import PlainCelery
from tests.bench.contestants.semel import Semel

CONTESTANTS: dict[str, type[Contestant]] = {each.name: each for each in (Semel, Naive, NaiveKept, Dbos, PlainCelery)}

__all__ = ["CONTESTANTS", "Contestant"]
