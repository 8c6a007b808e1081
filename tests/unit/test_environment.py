"""Where settings come from: the environment, then a deployment's .env, which run.py never reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.environment import IMAGE_ONLY, base_environment, without_development

ROOT = Path(__file__).resolve().parents[2]
PROVIDER = "PAYMENT_PROVIDER_URL"


def python(code, *, folder, **env):
    """Return the output of a new interpreter."""
    # What the interpreter itself may need to start, without Semel's variables.
    loader = {name: value for name, value in os.environ.items() if name in ("LD_LIBRARY_PATH", "PATH")}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**loader, **env}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A deployment's folder that contains only the code that reads the environment, and a .env."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "__init__.py").touch()
    shutil.copy(ROOT / "config" / "env.py", tmp_path / "config")
    shutil.copytree(ROOT / "foundation", tmp_path / "foundation")
    (tmp_path / ".env").write_text(f"{PROVIDER}=https://real.example\n")
    return tmp_path


def provider(checkout, **env):
    return python(f"from config.env import env; print(env.str({PROVIDER!r}, default='none'))", folder=checkout, **env)


def test_a_dotenv_file_is_read(checkout):
    assert provider(checkout) == "https://real.example"


def test_an_empty_file_name_reads_no_file(checkout):
    assert provider(checkout, SEMEL_ENV_FILE="") == "none"


def test_another_file_name_is_read_instead(checkout, tmp_path):
    (tmp_path / "other").write_text(f"{PROVIDER}=https://other.example\n")
    assert provider(checkout, SEMEL_ENV_FILE=str(tmp_path / "other")) == "https://other.example"


def test_the_environment_overrides_the_file(checkout):
    assert provider(checkout, **{PROVIDER: "https://set.example"}) == "https://set.example"


@pytest.mark.parametrize("before", [None, "/deployment/.env"])
def test_processes_of_the_launcher_read_no_file(monkeypatch, before):
    if before is None:
        monkeypatch.delenv("SEMEL_ENV_FILE", raising=False)
    else:
        monkeypatch.setenv("SEMEL_ENV_FILE", before)
    assert base_environment("a-tag")["SEMEL_ENV_FILE"] == ""


@pytest.mark.parametrize(
    ("process", "max_age"), [("streams", "0"), ("api", "None"), ("worker", "None"), ("manage", "None")]
)
def test_only_the_streams_process_closes_its_database_connection_after_each_request(process, max_age):
    code = "from config import settings; print(settings.DATABASES['default']['CONN_MAX_AGE'])"
    assert python(code, folder=ROOT, **{**os.environ, "SEMEL_PROCESS": process}) == max_age


OPTIONAL = "import importlib.util as found; print([bool(found.find_spec(name)) for name in ('structlog', 'requests')])"


def test_the_processes_of_a_stack_do_not_find_packages_of_development():
    assert python(OPTIONAL, folder=ROOT) == "[True, True]"
    hidden = without_development({"PYTHONPATH": "elsewhere"})
    assert hidden == {"PYTHONPATH": f"{IMAGE_ONLY}{os.pathsep}elsewhere"}
    code = """
import importlib, structlog
for name in ("requests", "rich.console", "opentelemetry.sdk"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(error)
"""
    printed = python(code, folder=ROOT, **hidden).splitlines()
    assert printed == [
        f"No module named {name!r} in requirements.txt" for name in ("requests", "rich", "opentelemetry.sdk")
    ]


def test_tracing_finds_its_packages():
    assert without_development({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) == {}
