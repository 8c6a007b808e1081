"""Where settings come from: a deployment's .env, but never in what run.py starts; and what depends on the process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.environment import base_environment

ROOT = Path(__file__).resolve().parents[2]
PROVIDER = "PAYMENT_PROVIDER_URL"


def python(code, *, folder, **env):
    """What a fresh interpreter prints."""
    # What the interpreter itself may need to start, and nothing of Semel's.
    loader = {name: value for name, value in os.environ.items() if name in ("LD_LIBRARY_PATH", "PATH")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**loader, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A folder as a deployment's, with nothing in it but what reads the environment, and a .env."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "__init__.py").touch()
    shutil.copy(ROOT / "config" / "env.py", tmp_path / "config")
    shutil.copytree(ROOT / "foundation", tmp_path / "foundation")
    (tmp_path / ".env").write_text(f"{PROVIDER}=https://real.example\n")
    return tmp_path


def provider(checkout, **env):
    return python(
        f"from config.env import env; print(env.str({PROVIDER!r}, default='none'))", folder=checkout, **env
    )


def test_a_deployments_file_is_read(checkout):
    assert provider(checkout) == "https://real.example"


def test_with_an_empty_name_no_file_is_read(checkout):
    assert provider(checkout, SEMEL_ENV_FILE="") == "none"


def test_a_file_of_another_name_is_read_instead(checkout, tmp_path):
    (tmp_path / "other").write_text(f"{PROVIDER}=https://other.example\n")
    assert provider(checkout, SEMEL_ENV_FILE=str(tmp_path / "other")) == "https://other.example"


def test_the_environment_itself_wins_over_the_file(checkout):
    assert provider(checkout, **{PROVIDER: "https://set.example"}) == "https://set.example"


@pytest.mark.parametrize("before", [None, "/deployment/.env"])
def test_nothing_that_the_launcher_starts_reads_a_file(monkeypatch, before):
    if before is None:
        monkeypatch.delenv("SEMEL_ENV_FILE", raising=False)
    else:
        monkeypatch.setenv("SEMEL_ENV_FILE", before)
    assert base_environment("a-tag")["SEMEL_ENV_FILE"] == ""


@pytest.mark.parametrize(
    ("process", "max_age"), [("streams", "0"), ("api", "None"), ("worker", "None"), ("manage", "None")]
)
def test_only_under_asgi_a_database_connection_ends_with_its_request(process, max_age):
    code = "from config import settings; print(settings.DATABASES['default']['CONN_MAX_AGE'])"
    assert python(code, folder=ROOT, **{**os.environ, "SEMEL_PROCESS": process}) == max_age
