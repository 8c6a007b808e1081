#!/usr/bin/env python3
"""Semel on a machine with nothing but Python: makes .venv once, then hands over to devstack.

Standard library only, and readable by any Python 3.6 or later, so that an old one can say what it needs
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

# What pip's log says, and what the reader can do about it; the first that fits is shown.
ADVICE = (
    (
        (
            "NewConnectionError",
            "NameResolutionError",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
        ),
        "no package index answers: check the network, or name yours in PIP_INDEX_URL",
    ),
    (("SSLError", "CERTIFICATE_VERIFY_FAILED"), "the package index has no trusted certificate: see PIP_CERT"),
    (
        ("DO NOT MATCH THE HASHES",),
        "a package differs from the one that was locked: check your package index",
    ),
    (("No space left on device",), "the disk is full: Semel needs about 600 MB"),
)


def main(arguments: "list[str]") -> int:
    """The command runs in place of this process, in an environment that has all it needs."""
    complaint = complaint_about(sys.version_info[:2], os.name)
    if complaint:
        return stop(complaint)
    # Read by its path: the package around it may import what is not installed yet.
    runpy.run_path(str(ROOT / "devstack" / "arguments.py"))["parse"](arguments)
    # SIGTERM ends a first start as Ctrl-C does: by an exception, so that pip ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        problem = install()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if problem:
        return stop(problem)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    environment = {**os.environ, "SEMEL_STARTED_IN": str(Path.cwd())}  # where a relative --data counts from
    # It would have each process compile all of Semel anew: three times the processor of a start.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    os.chdir(ROOT)
    return os.execve(str(PYTHON), [str(PYTHON), "-m", "devstack", *arguments], environment)


def complaint_about(version: "tuple[int, ...]", platform: str) -> "str | None":
    """One line on why this Python or platform will not do, or None."""
    if tuple(version[:2]) < NEEDS:
        needs, have = ("{}.{}".format(*pair[:2]) for pair in (NEEDS, version))
        return (
            f"Semel needs Python {needs} or newer; this is {have}: "
            f"run it with a newer one, for example: python{needs} run.py demo"
        )
    if platform != "posix":
        return "Semel's launcher needs Linux or macOS; on Windows, run it inside WSL."
    return None


def stop(line: str) -> int:
    """The reason stands on standard error; the exit code says that nothing was started."""
    print(f"run.py: {line}", file=sys.stderr)
    return 1


def interpreter() -> str:
    """What wheels depend on: implementation and minor version; a patch release keeps them valid."""
    return "{}-{}.{}".format(sys.implementation.name, *sys.version_info)


def fingerprint(files: "tuple[Path, ...]" = REQUIREMENTS) -> str:
    """SHA-256 over the requirements files: changes exactly when what must be installed changes."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def stamp() -> str:
    """What a finished .venv says of itself."""
    return f"{interpreter()} {fingerprint()}\n"


def is_ready() -> bool:
    """Whether .venv was finished for exactly these requirements and this Python."""
    try:
        return STAMP.read_text(encoding="ascii") == stamp() and PYTHON.exists()
    except OSError:
        return False


def install() -> "str | None":
    """.venv is whole and stamped (None), or the problem in one line; one installer at a time."""
    if is_ready():
        return None
    with locked() as lock:
        if is_ready():  # another first start finished while we waited
            return None
        return make_venv(lock) or fill_venv(lock)


@contextlib.contextmanager
def locked() -> "Iterator[int]":
    """This process alone installs. The lock goes with its holder, however that ends."""
    import fcntl  # noqa: PLC0415 - absent on Windows, which gets a plain answer above

    with Path(__file__).open() as lock:  # this very file: a lock of its own would be one more file to explain
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Semel: another start is installing; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def make_venv(lock: int) -> "str | None":
    """.venv has this Python and pip. What another Python or a broken start left there is gone."""
    finished_by = STAMP.read_text(encoding="ascii").split(" ")[0] if STAMP.exists() else None
    STAMP.unlink(missing_ok=True)  # from here on it is unfinished
    if finished_by == interpreter() and PYTHON.exists():
        return None
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir(exist_ok=True)
    print("Semel: making .venv (this start only).", flush=True)
    if run_logged([sys.executable, "-m", "venv", str(VENV)], lock) == 0:
        return None
    return (
        "this Python cannot make a virtual environment; on Debian and Ubuntu: "
        f"apt install python3-venv, then again. What was tried: {LOG}"
    )


def fill_venv(lock: int) -> "str | None":
    """Exactly the locked packages are installed, and the stamp says so."""
    packages = sum(b"==" in line for line in REQUIREMENTS[1].read_bytes().splitlines())
    print(f"Semel: installing {packages} packages; takes about a minute, this start only.", flush=True)
    began_at = time.monotonic()
    pip = [str(PYTHON), "-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "--retries=2"]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    if run_logged([*pip, *quiet, "-r", str(REQUIREMENTS[1])], lock) != 0:
        return f"installing failed: {advice(LOG.read_text(errors='replace'))}. The whole story: {LOG}"
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(stamp(), encoding="ascii")
    unfinished.replace(STAMP)
    print(f"Semel: installed in {time.monotonic() - began_at:.0f} s.", flush=True)
    return None


def run_logged(command: "list[str]", lock: int) -> int:
    """The command's exit code; what it said is in the log.

    It inherits the lock: should this process be killed, nobody else touches .venv before it has ended.
    """
    with LOG.open("ab") as log:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            preexec_fn=end_with_parent,  # this process has one thread
            check=False,
        ).returncode


def end_with_parent() -> None:
    """On Linux the kernel ends this process when the launcher is killed; elsewhere it finishes by itself."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only here

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def advice(log: str) -> str:
    """What to do about a failed installation, in a few words."""
    for marks, words in ADVICE:
        if any(mark in log for mark in marks):
            return words
    missing = re.findall(r"No matching distribution found for ([^\s;]+)", log)
    if missing:
        return (
            f"no package index has {missing[-1]} for this Python and platform: "
            "use Python 3.11 to 3.14 on Linux or macOS, or name another index in PIP_INDEX_URL"
        )
    errors = [line for line in log.splitlines() if "error" in line.lower()]
    return errors[-1].strip() if errors else "pip ended without a reason"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
