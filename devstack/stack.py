"""All of Semel on this machine: what starts when, and what is true once it is ready."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devstack import broker, postgres, services
from devstack.environment import base_environment, only_settings, settings_environment
from devstack.http_client import Api
from devstack.ports import HOST, companion_port, free_port
from devstack.processes import Command
from devstack.readiness import answers, takes_orders
from devstack.seed import ADMIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devstack.console import Console
    from devstack.folder import Folder
    from devstack.supervisor import Supervisor

_UNAUTHENTICATED = 401


@dataclass(frozen=True)
class Servers:
    """Where the two servers are."""

    database_url: str
    redis_url: str


def embed_servers(
    supervisor: Supervisor, folder: Folder, env: dict[str, str], *, is_durable: bool = True
) -> Servers:
    """PostgreSQL and Valkey of our own run on the folder and take connections."""
    secrets = folder.secrets()
    # The quick one first: it loads its data while initdb works.
    redis_url = broker.start_broker(supervisor, folder.path / "broker", secrets["broker_password"], env)
    database_url = postgres.start_postgres(
        supervisor, folder.path / "postgres", secrets["database_password"], env, is_durable=is_durable
    )
    supervisor.wait_for(
        {"postgres": lambda: postgres.is_ready(database_url), "broker": lambda: broker.is_ready(redis_url)}
    )
    return Servers(database_url, redis_url)


def webhook_secret(random: str) -> str:
    """A secret in the form that Standard Webhooks gives it, made of another one."""
    return f"whsec_{base64.b64encode(hashlib.sha256(random.encode()).digest()).decode()}"


class Stack:
    """Every process of Semel, from an empty folder to answering requests."""

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Folder,
        console: Console,
        *,
        port: int,
        tempo: Mapping[str, str] | None = None,
    ) -> None:
        """``port``: the API's. ``tempo``: settings that hold whatever the user has set."""
        self.supervisor = supervisor
        self.folder = folder
        self.base_url = f"http://{HOST}:{port}"
        self._console = console
        self._port = port
        self._tempo = tempo or {}
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
        """Everything answers. ``outside``: the user's own servers, in place of embedded ones."""
        base = base_environment(self.supervisor.tag)
        if outside:
            servers = Servers(*outside)
        else:
            servers = embed_servers(self.supervisor, self.folder, base)
            self._console.say("PostgreSQL and Valkey are up.")
        self.env = settings_environment(
            base, self.folder, database_url=servers.database_url, redis_url=servers.redis_url
        )
        self.env |= {"STREAMS_URL": self.streams_url, **self._share_metrics(), **self._tempo}
        if not outside:
            self.env.setdefault("PROVISION_DATABASE_URL", postgres.maintenance_url(servers.database_url))
        self._start_provider()
        self.supervisor.run(services.migrate(self.env))
        self._console.say("The schema is in place.")
        self._start_processes()
        self._ensure_login()
        self.supervisor.wait_for(self._checks())
        self._check_key()
        self._console.say(f"Ready: {', '.join(self.supervisor.running)}.")

    def state(self) -> dict[str, Any]:
        """What ``state.json`` says."""
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

    def _share_metrics(self) -> dict[str, str]:
        """One folder for the figures of all processes, empty: those of the last start are over; and a token to read them."""
        folder = self.folder.path / "metrics"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        token = self.env.get("METRICS_TOKEN") or self.folder.secrets()["metrics_token"]
        return {"PROMETHEUS_MULTIPROC_DIR": str(folder), "METRICS_TOKEN": token}

    def _start_provider(self) -> None:
        """Charges go to the user's provider, or to a sandbox of ours."""
        self.provider_url = self.env.get("PAYMENT_PROVIDER_URL", "")
        self.provider_key = self.env.get("PAYMENT_PROVIDER_KEY", "")
        if self.provider_url:
            return
        port = self._provider_port = free_port()
        self.provider_key = self.folder.secrets()["provider_key"]
        self.provider_url = f"http://{HOST}:{port}"
        book = self.folder.path / "provider.sqlite3"
        secret = self.inbox["sandbox"] = webhook_secret(self.folder.secrets()["webhook_secret"])
        self.env |= {
            "PAYMENT_PROVIDER_URL": self.provider_url,
            "PAYMENT_PROVIDER_KEY": self.provider_key,
            "INBOX_SECRETS": f"sandbox:{secret}",
        }
        told = f"{self.base_url}/v1/inbox/sandbox"
        self.supervisor.start(
            services.provider(
                self.env, port, book, self.provider_key, webhook_url=told, webhook_secret=secret
            )
        )

    def _start_processes(self) -> None:
        for command in (
            services.api(self.env, self._port),
            services.streams(self.env, self._streams_port),
            services.worker(self.env),
            services.maintenance(self.env),
            services.beat(self.env, self.folder.path / "beat-schedule"),
        ):
            self.supervisor.start(command)

    def _checks(self) -> dict[str, Any]:
        redis_url = self.env["REDIS_URL"]
        return {
            **self._provider_check(),
            "api": answers(self._port, "/readyz"),
            "streams": answers(self._streams_port, "/livez"),
            "worker": takes_orders(redis_url, "worker"),
            "maintenance": takes_orders(redis_url, "maintenance"),
        }

    def _provider_check(self) -> dict[str, Any]:
        """Of the sandbox, if there is one."""
        if self._provider_port is None:
            return {}
        return {"provider": answers(self._provider_port, "/v1/stats", key=self.provider_key)}

    def _ensure_login(self) -> None:
        """There is an API key and an administrator: those of the last start, or new ones."""
        known = self.folder.secrets()
        if "api_key" not in known:
            self._seed()
            return
        self.api_key = known["api_key"]
        self.admin_password = known["admin_password"] if known["is_admin_ours"] == "yes" else None

    def _check_key(self) -> None:
        """The key opens this database; the user may have pointed the folder at another one since."""
        if Api(self.base_url, self.api_key).get("/v1/jobs?limit=1").status == _UNAUTHENTICATED:
            self._seed()

    def _seed(self) -> None:
        answer = self.supervisor.scratch / "seed.json"
        secrets = self.folder.secrets()
        env = {**self.env, "DJANGO_SUPERUSER_PASSWORD": secrets["admin_password"], "SEMEL_PROCESS": "manage"}
        argv = [sys.executable, "-m", "devstack.seed", str(answer)]
        self.supervisor.run(Command("seed", argv, env))
        made = json.loads(answer.read_text(encoding="utf-8"))
        answer.unlink()
        self.api_key = made["api_key"]
        self.admin_password = secrets["admin_password"] if made["is_admin_ours"] else None
        self.folder.remember(api_key=self.api_key, is_admin_ours="yes" if made["is_admin_ours"] else "no")
