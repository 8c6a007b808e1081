#!/usr/bin/env python3
"""Semel on a machine with nothing but Python: creates .venv once, then hands over to devstack.

Standard library only, and readable by Python 3.6 or later, so that an old Python can print the required version
(hence the quoted annotations).
"""

import contextlib
import hashlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDS = (3, 11)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "requirements-dev.txt")
LOG = VENV / "install.log"
STAMP = VENV / "semel-stamp"

_NO_INDEX = "no package index answers: check the network, or set PIP_INDEX_URL to yours"
_NO_CERTIFICATE = "the package index has no trusted certificate: set PIP_CERT"
# Texts in pip's log, and what the user can do about them. The first match is shown.
ADVICE = {
    "NewConnectionError": _NO_INDEX,
    "NameResolutionError": _NO_INDEX,
    "ConnectTimeoutError": _NO_INDEX,
    "ReadTimeoutError": _NO_INDEX,
    "ProxyError": _NO_INDEX,
    "SSLError": _NO_CERTIFICATE,
    "CERTIFICATE_VERIFY_FAILED": _NO_CERTIFICATE,
    "DO NOT MATCH THE HASHES": "a package differs from the locked one: check your package index",
    "No space left on device": "the disk is full: Semel needs about 600 MB",
}


def main(arguments: "list[str]") -> int:
    """Install the environment if needed, then replace this process by the command."""
    complaint = complaint_about(sys.version_info[:2], os.name)
    if complaint:
        return fail(complaint)
    # Run by its path: importing the package could import what is not installed yet. Exits on a wrong command line.
    runpy.run_path(str(ROOT / "devstack" / "arguments.py"))["parse"](arguments)
    # During an installation SIGTERM raises an exception, as Ctrl-C does, so that pip ends with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        problem = install()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if problem:
        return fail(problem)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    environment = {**os.environ, "SEMEL_STARTED_IN": str(Path.cwd())}  # where a relative --data starts
    # With it, each process would compile all of Semel again, which triples the CPU time of a start.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    os.chdir(ROOT)
    return os.execve(str(PYTHON), [str(PYTHON), "-m", "devstack", *arguments], environment)


def complaint_about(version: "tuple[int, ...]", platform: str) -> "str | None":
    """Return one line on why this Python or platform cannot run Semel, or None."""
    if tuple(version[:2]) < NEEDS:
        needs, have = ("{}.{}".format(*pair[:2]) for pair in (NEEDS, version))
        return (
            f"Semel needs Python {needs} or newer; this is {have}: "
            f"run it with a newer one, for example: python{needs} run.py demo"
        )
    if platform != "posix":
        return "Semel's launcher needs Linux or macOS; on Windows, run it inside WSL."
    return None


def fail(reason: str) -> int:
    print(f"run.py: {reason}", file=sys.stderr)
    return 1


def interpreter() -> str:
    """Return the implementation and minor version, on which wheels depend."""
    return "{}-{}.{}".format(sys.implementation.name, *sys.version_info)


def fingerprint(files: "tuple[Path, ...]" = REQUIREMENTS) -> str:
    """Return the SHA-256 of the requirements files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def stamp() -> str:
    """Return the content of the stamp that marks a complete .venv."""
    return f"{interpreter()} {fingerprint()}\n"


def is_ready() -> bool:
    """Return True if .venv is complete for these requirements and this Python."""
    try:
        return STAMP.read_text(encoding="ascii") == stamp() and PYTHON.exists()
    except OSError:
        return False


def install() -> "str | None":
    """Complete .venv, one process at a time. Return the problem in one line, or None."""
    if is_ready():
        return None
    with installation_lock() as lock:
        if is_ready():  # another process installed while this one waited
            return None
        return create_venv(lock) or install_packages(lock)


@contextlib.contextmanager
def installation_lock() -> "Iterator[int]":
    """Lock this file, so that one process installs at a time; the kernel frees the lock when its holders end."""
    import fcntl  # noqa: PLC0415 - Windows has none, and is refused above

    with Path(__file__).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Semel: another start is installing; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def create_venv(lock: int) -> "str | None":
    """Create .venv, unless a complete one of this Python only needs other packages."""
    finished_by = STAMP.read_text(encoding="ascii").split(" ")[0] if STAMP.exists() else None
    STAMP.unlink(missing_ok=True)  # from here on it is incomplete
    if finished_by == interpreter() and PYTHON.exists():
        return None
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir(exist_ok=True)
    print("Semel: creating .venv (only at this start).", flush=True)
    if run_logged([sys.executable, "-m", "venv", str(VENV)], lock) == 0:
        return None
    return (
        "this Python cannot create a virtual environment; on Debian and Ubuntu, "
        f"run apt install python3-venv and try again. See {LOG}"
    )


def install_packages(lock: int) -> "str | None":
    """Install exactly the locked packages and write the stamp."""
    packages = sum(b"==" in line for line in REQUIREMENTS[1].read_bytes().splitlines())
    print(f"Semel: installing {packages} packages; this takes about a minute, only at this start.", flush=True)
    started_at = time.monotonic()
    pip = [str(PYTHON), "-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "--retries=2"]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    if run_logged([*pip, *quiet, "-r", str(REQUIREMENTS[1])], lock) != 0:
        return f"the installation failed: {advice(LOG.read_text(errors='replace'))}. See {LOG}"
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(stamp(), encoding="ascii")
    unfinished.replace(STAMP)
    print(f"Semel: installed in {time.monotonic() - started_at:.0f} s.", flush=True)
    return None


def run_logged(command: "list[str]", lock: int) -> int:
    """Run the command with its output in the log, and return its exit code.

    It inherits the lock: if this process is killed, no other one touches .venv before the command has ended.
    """
    with LOG.open("ab") as log:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            preexec_fn=end_with_parent,  # safe: this process has one thread
            check=False,
        ).returncode


def end_with_parent() -> None:
    """Make the kernel end this process when the launcher is killed; on other systems than Linux it runs to its end."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only here

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def advice(log: str) -> str:
    """Return what to do about a failed installation."""
    for error, text in ADVICE.items():
        if error in log:
            return text
    missing = re.findall(r"No matching distribution found for ([^\s;]+)", log)
    if missing:
        return (
            f"no package index has {missing[-1]} for this Python and platform: "
            "use Python 3.11 to 3.14 on Linux or macOS, or set PIP_INDEX_URL to another index"
        )
    errors = [line for line in log.splitlines() if "error" in line.lower()]
    return errors[-1].strip() if errors else "pip gave no reason"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
