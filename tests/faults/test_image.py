"""What deploy/Dockerfile puts into the image is enough: run from a copy of it, without the packages of development."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata

import httpx2
import pytest

from devstack import services
from devstack.ports import free_port
from devstack.processes import Command, start
from tests.support.compose import ROOT
from tests.support.stack import POLL_SECONDS, START_SECONDS
from tests.support.waiting import until

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
# Imported by every Python that finds it: the named modules cannot be imported.
WITHOUT = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}} in the image", name=name)

sys.meta_path.insert(0, Absent)
"""


def locked(name):
    """The distributions that a requirements file locks."""
    return set(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))


def modules_of_development():
    """The top-level modules of what only requirements-dev.txt installs."""
    names = locked("requirements-dev.txt") - locked("requirements.txt")
    ours = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    modules: dict[str, set[str]] = {}
    for module, distributions in metadata.packages_distributions().items():
        modules[module] = {re.sub(r"[-_.]+", "-", name).lower() for name in distributions}
    return sorted(module for module, distributions in modules.items() if distributions <= ours)


@pytest.fixture
def image(tmp_path):
    """The folder /app of the image, and the environment in which its programs run."""
    app, hook = tmp_path / "app", tmp_path / "hook"
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in (line[1:] for line in lines if line.startswith("!")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            app.mkdir(exist_ok=True)
            shutil.copy(source, app / name)
    for name in lines:
        if (app / name).is_dir() and name != "*":
            shutil.rmtree(app / name)
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(WITHOUT.format(names=set(modules_of_development())), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(hook), "PYTHONDONTWRITEBYTECODE": "1", "SEMEL_ENV_FILE": ""}
    return app, {name: value for name, value in env.items() if not name.startswith(("PYTEST", "SEMEL_PROCESS"))}


def run(image, *words, **env):
    app, environment = image
    return subprocess.run(
        [sys.executable, *words],
        cwd=app,
        env={**environment, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_each_process_finds_all_that_it_imports(image):
    for code in (
        "import config.wsgi",
        "import config.asgi",
        "from config.celery import app; app.loader.import_default_modules(); assert 'workers.run_job' in app.tasks",
    ):
        done = run(image, "-c", f"import django; {code}")
        assert done.returncode == 0, done.stderr
    done = run(image, "-c", "import pytest")
    assert "in the image" in done.stderr


def test_a_deployment_can_be_checked_and_migrated_from_it(image):
    done = run(image, "manage.py", "check", "--deploy")
    assert done.returncode == 0, done.stderr
    assert run(image, "manage.py", "makemigrations", "--check", "--dry-run").returncode == 0


@pytest.mark.django_db(transaction=True)
def test_static_files_and_the_browsable_schema_are_in_it(image, tmp_path):
    app, env = image
    port = free_port()
    command = services.api(env, port)
    running = start(Command("api", command.argv, command.env, options={"cwd": app}), tmp_path / "api.log")
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            def answers():
                assert not running.has_ended, running.last_lines()
                try:
                    return client.get("/livez").is_success
                except httpx2.TransportError:
                    return False

            until(answers, seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
            assert client.get("/static/admin/css/base.css").headers["Content-Type"].startswith("text/css")
            page = client.get("/docs").text
            for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
                assert client.get(address).is_success, address
            assert client.get("/schema").json()["openapi"].startswith("3.1")
    finally:
        running.popen.terminate()
        running.popen.wait()
        shutil.rmtree(app)


def test_the_image_is_pinned_builds_nothing_in_its_last_stage_and_does_not_run_as_root():
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    build, final = DOCKERFILE.split("FROM python:${PYTHON}")[1:]
    assert "--require-hashes --only-binary=:all:" in build.replace("\\\n        ", "")
    assert not re.search(r"apt-get|pip|curl|git\b|gcc", final)
    assert re.search(r"^USER [1-9]\d*$", final, re.MULTILINE)


def test_the_image_contains_no_secrets_and_no_git_history():
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    assert allowed == {
        *("requirements.txt", "requirements-otel.txt", "requirements-s3.txt", "manage.py"),
        *(
            "accounts",
            "api",
            "broker",
            "config",
            "foundation",
            "idempotency",
            "jobs",
            "observability",
            "operations",
            "operators",
            "streams",
            "workers",
        ),
    }
    assert "*" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
