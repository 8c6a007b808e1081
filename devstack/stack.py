"""The whole stack on this machine: starts every process in order, and waits until all are ready."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from devstack import broker, postgres, services
from devstack.environment import base_environment, only_settings, settings_environment, without_development
from devstack.http_client import Api
from devstack.open_files import fitting_connections
from devstack.ports import HOST, companion_port, free_port
from devstack.processes import Command
from devstack.seed import ADMIN
from devstack.services import answers, answers_ping

if TYPE_CHECKING:
    from devstack.console import Console
    from devstack.folder import Folder
    from devstack.supervisor import Supervisor

_UNAUTHENTICATED = 401


def embed_servers(
    supervisor: Supervisor, folder: Folder, env: dict[str, str], *, is_durable: bool = True
) -> tuple[str, str]:
    """Start PostgreSQL and Valkey on the folder, wait until they accept connections, and return their URLs."""
    secrets = folder.secrets()
    # Valkey first: it loads its data while initdb works.
    redis_url = broker.start_broker(supervisor, folder.path / "broker", secrets["broker_password"], env)
    database_url = postgres.start_postgres(
        supervisor, folder.path / "postgres", secrets["database_password"], env, is_durable=is_durable
    )
    supervisor.wait_for(
        {"postgres": lambda: postgres.is_ready(database_url), "broker": lambda: broker.is_ready(redis_url)}
    )
    return database_url, redis_url


def webhook_secret(random: str) -> str:
    """Derive a secret in the format of Standard Webhooks from a random text."""
    return f"whsec_{base64.b64encode(hashlib.sha256(random.encode()).digest()).decode()}"


class Stack:
    """Every process of Semel on one data folder."""

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Folder,
        console: Console,
        *,
        port: int,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        """``port`` is the API's; ``overrides`` are settings that replace the user's."""
        self.supervisor = supervisor
        self.folder = folder
        self.base_url = f"http://{HOST}:{port}"
        self._console = console
        self._port = port
        self._overrides = overrides or {}
        self._streams_port = companion_port(port)
        self.streams_url = f"http://{HOST}:{self._streams_port}"
        self.env: dict[str, str] = {}
        self.api_key = ""
        self.admin_password: str | None = None
        self.provider_url = ""
        self.provider_key = ""
        self._provider_port: int | None = None
        self.inbox: dict[str, str] = {}

    def start(self, outside: tuple[str, str] | None) -> None:
        """Start everything and wait until it answers. ``outside`` are the user's own servers, instead of embedded ones."""
        base = base_environment(self.supervisor.tag)
        database_url, redis_url = outside or embed_servers(self.supervisor, self.folder, base)
        self.env = settings_environment(base, self.folder, database_url=database_url, redis_url=redis_url)
        self.env |= {"STREAMS_URL": self.streams_url, **self._prepare_metrics(), **self._overrides}
        self.env |= without_development(self.env)
        self._fit_connections()
        if not outside:
            self._console.print("PostgreSQL and Valkey are up.")
            self.env.setdefault("PROVISION_DATABASE_URL", postgres.maintenance_url(database_url))
        self._start_provider()
        self.supervisor.run(services.migrate(self.env))
        self._console.print("The schema is up to date.")
        for command in (
            services.api(self.env, self._port),
            services.streams(self.env, self._streams_port),
            services.worker(self.env),
            services.maintenance(self.env),
            services.beat(self.env, self.folder.path / "beat-schedule"),
        ):
            self.supervisor.start(command)
        self._load_login()
        self.supervisor.wait_for(self._checks())
        # The database may not know our key: the user may have set another database since the last start.
        if Api(self.base_url, self.api_key).get("/v1/jobs?limit=1").status == _UNAUTHENTICATED:
            self._seed()
        self._console.print(f"Ready: {', '.join(self.supervisor.running)}.")

    def state(self) -> dict[str, Any]:
        """Return the content of ``state.json``."""
        return {
            "base_url": self.base_url,
            "streams_url": self.streams_url,
            "api_key": self.api_key,
            "admin": {"url": f"{self.base_url}/admin/", "user": ADMIN, "password": self.admin_password},
            "pids": {name: one.identity.pid for name, one in self.supervisor.running.items()},
            "database_url": self.env["DATABASE_URL"],
            "redis_url": self.env["REDIS_URL"],
            "metrics_token": self.env["METRICS_TOKEN"],
            "provider_url": self.provider_url,
            "inbox": self.inbox,
            "env": only_settings(self.env),
        }

    def _fit_connections(self) -> None:
        """Set the numbers of connections, lower than the defaults where the system allows fewer open files."""
        fitting = fitting_connections(self.env)
        for name, count in fitting.items():
            if name not in self.env and count != services.CONNECTIONS[name]:
                self._console.print(f"{name} is {count}: this system allows no more open files (ulimit -Hn).")
        self.env |= fitting

    def _prepare_metrics(self) -> dict[str, str]:
        """Create an empty folder for the metrics of all processes, and a token to read them."""
        folder = self.folder.path / "metrics"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        token = self.env.get("METRICS_TOKEN") or self.folder.secrets()["metrics_token"]
        return {"PROMETHEUS_MULTIPROC_DIR": str(folder), "METRICS_TOKEN": token}

    def _start_provider(self) -> None:
        """Start the sandbox payment provider, unless the user has set another provider."""
        self.provider_url = self.env.get("PAYMENT_PROVIDER_URL", "")
        self.provider_key = self.env.get("PAYMENT_PROVIDER_KEY", "")
        if self.provider_url:
            return
        port = self._provider_port = free_port()
        self.provider_key = self.folder.secrets()["provider_key"]
        self.provider_url = f"http://{HOST}:{port}"
        store = self.folder.path / "provider.sqlite3"
        secret = self.inbox["sandbox"] = webhook_secret(self.folder.secrets()["webhook_secret"])
        self.env |= {
            "PAYMENT_PROVIDER_URL": self.provider_url,
            "PAYMENT_PROVIDER_KEY": self.provider_key,
            "INBOX_SECRETS": f"sandbox:{secret}",
        }
        url = f"{self.base_url}/v1/inbox/sandbox"
        self.supervisor.start(
            services.provider(self.env, port, store, self.provider_key, webhook_url=url, webhook_secret=secret)
        )

    def _checks(self) -> dict[str, Any]:
        redis_url = self.env["REDIS_URL"]
        checks = {
            "api": answers(self._port, "/readyz"),
            "streams": answers(self._streams_port, "/livez"),
            "worker": answers_ping(redis_url, "worker"),
            "maintenance": answers_ping(redis_url, "maintenance"),
        }
        if self._provider_port is not None:
            checks["provider"] = answers(self._provider_port, "/v1/stats", key=self.provider_key)
        return checks

    def _load_login(self) -> None:
        """Load the API key and the administrator's password of the last start, or create both accounts."""
        secrets = self.folder.secrets()
        if "api_key" not in secrets:
            self._seed()
            return
        self.api_key = secrets["api_key"]
        self.admin_password = secrets["admin_password"] if secrets["is_admin_ours"] == "yes" else None

    def _seed(self) -> None:
        file = self.supervisor.scratch / "seed.json"
        password = self.folder.secrets()["admin_password"]
        env = {**self.env, "DJANGO_SUPERUSER_PASSWORD": password, "SEMEL_PROCESS": "manage"}
        self.supervisor.run(Command("seed", [sys.executable, "-m", "devstack.seed", str(file)], env))
        seeded = json.loads(file.read_text(encoding="utf-8"))
        file.unlink()
        is_admin_ours = "yes" if seeded["is_admin_ours"] else "no"
        self.folder.add_secrets(api_key=seeded["api_key"], is_admin_ours=is_admin_ours)
        self._load_login()
