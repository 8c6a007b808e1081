"""What every test may ask for. PostgreSQL and Valkey are real: `python3 run.py test` starts them and sets the two addresses."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import hypothesis
import psycopg
import pytest
import redis
from django.conf import settings
from django.test import TransactionTestCase
from rest_framework.test import APIClient

from accounts.credential_cache import credential_cache
from broker.circuit_breaker import redis_breaker
from broker.publisher import publisher
from jobs.durations import typical_durations
from tests.support.empty_tables import empty_tables
from tests.support.factories import TenantFactory, new_api_key
from tests.support.operations import SCRIPTS
from workers.heartbeat import heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from accounts.models import Tenant
    from broker.hints import DueJob

FUZZ_EXAMPLES = 8  # some 20 seconds
POISONED_JOBS = 25  # 75 processes die, each for some 0.7 s of a processor
_VALKEY_DATABASES = 15  # numbers 1 to 15 of the server's default 16; 0 is left to a running stack


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much tests make up that can go on for ever: little in the suite, more by request."""
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=FUZZ_EXAMPLES,
        help="requests that schemathesis makes up for each endpoint; fifteen times as many params for each operation",
    )
    parser.addoption(
        "--poisoned-jobs",
        type=int,
        default=POISONED_JOBS,
        help="jobs that kill their worker process at each of their attempts, among twenty times as many good ones",
    )
    parser.addoption("--rows", type=int, default=100_000, help="jobs in the table beside which the admin is measured")
    parser.addoption("--screenshots", help="folder in which the browser's pictures of the admin are kept")


def pytest_configure(config: pytest.Config) -> None:
    """Each parallel worker has a broker database of its own, and knows the tests' operations."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    base = settings.REDIS_URL.rsplit("/", 1)[0] if settings.REDIS_URL.count("/") > 2 else settings.REDIS_URL
    url = f"{base}/{number % _VALKEY_DATABASES + 1}"
    settings.REDIS_URL = settings.CELERY_BROKER_URL = os.environ["REDIS_URL"] = url
    # Nothing is written behind a test's back.
    settings.IDEMPOTENCY_REPLAY_FLUSH_SECONDS = settings.DURATIONS_REFRESH_SECONDS = 3600.0
    # A busy machine makes any example slow: how fast something is, is no matter of tests.
    hypothesis.settings.register_profile("semel", deadline=None)
    hypothesis.settings.load_profile("semel")
    settings.OPERATIONS = [
        *settings.OPERATIONS,
        "tests.support.operations.Scripted",
        "tests.support.operations.Anything",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests/faults first: its files take up to minutes each, and the last one would be waited for alone.

    pytest-django has sorted the tests by their use of the database; that order stays otherwise.
    """
    items.sort(key=lambda item: "faults" not in item.path.parts)


def pytest_xdist_auto_num_workers() -> int:
    """Return two for each processor: a test in tests/faults waits half of its time, for a lease or a health check.

    Not more than six: each has a stack with some thirty sessions, and the server takes two hundred.
    """
    return min(2 * (os.cpu_count() or 1), 6)


def pytest_report_header() -> str:
    """Which servers these tests are about."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as database, redis.Redis.from_url(settings.REDIS_URL) as broker:
        info = broker.info("server")
        name, version = info.get("server_name", "redis"), info.get("valkey_version", info["redis_version"])
        return f"servers: PostgreSQL {database.info.parameter_status('server_version')}, {name} {version}"


@pytest.fixture(autouse=True, scope="session")
def _quick_flush() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _test: empty_tables())
        yield


@pytest.fixture(autouse=True)
def _closed_breaker() -> Iterator[None]:
    redis_breaker.succeeded()
    typical_durations.forget()
    credential_cache.clear()
    yield
    publisher._later.clear()
    assert publisher.flush(seconds=20.0)
    redis_breaker.succeeded()


@pytest.fixture
def hinted(monkeypatch: pytest.MonkeyPatch) -> list[DueJob]:
    """The hints that this process gives to its publisher from now on; none is sent."""
    due: list[DueJob] = []
    monkeypatch.setattr(publisher, "publish_hint", due.append)
    return due


@pytest.fixture
def tenant(db: None) -> Tenant:
    return TenantFactory()


@pytest.fixture
def api(tenant: Tenant) -> APIClient:
    """A client of the tenant, in test mode."""
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant)}")
    return client


@pytest.fixture
def advance_credentials(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advance the clock by which this process remembers API keys. Five seconds are what a revocation may take."""
    clock = SimpleNamespace(ahead=0.0, monotonic=lambda: time.monotonic() + clock.ahead)
    monkeypatch.setattr("accounts.credential_cache.time", clock)

    def advance(seconds: float) -> None:
        clock.ahead += seconds

    return advance


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    """An empty folder, where this test's artifacts are."""
    artifacts = {"BACKEND": "jobs.artifact_storage.ArtifactFolder", "OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = {**settings.STORAGES, "artifacts": artifacts}
    return tmp_path


@pytest.fixture
def fresh_heartbeat() -> Iterator[None]:
    """Let the test set HEARTBEAT_SECONDS: no thread of an earlier test sleeps as long as it did."""
    heartbeat.stop()
    yield
    heartbeat.stop()


@pytest.fixture
def script(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[..., Any]], str]]:
    """Give a function; what `test.scripted` jobs of that name do from now on is that function of the job."""
    names: list[str] = []

    def add(perform: Callable[..., Any]) -> str:
        name = f"{request.node.name}-{len(names)}"
        SCRIPTS[name] = perform
        names.append(name)
        return name

    yield add
    for name in names:
        del SCRIPTS[name]
