"""Another Django project can install `idempotency`: it needs only `foundation`, and its checks name the settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHER_PROJECT = """
SECRET_KEY = "other"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "idempotency"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "other"}}
USE_TZ = True
REST_FRAMEWORK = {"DEFAULT_PARSER_CLASSES": ["idempotency.parsers.ExactJSONParser"]}
"""
SETTINGS = """
IDEMPOTENCY_FINGERPRINT_KEYS = ["k1:a-secret-of-the-other-project"]
IDEMPOTENCY_KEY_SYNTAX = "lenient"
IDEMPOTENCY_MISMATCH_STATUS = 409
IDEMPOTENCY_REPLAY_FLUSH_SECONDS = 5.0
IDEMPOTENCY_SCOPE = "os.path.basename"
IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES = 1024 * 1024
IDEMPOTENCY_TTL_SECONDS = 24 * 3600
IDEMPOTENCY_WAITING_DUPLICATES = 2
IDEMPOTENCY_WAIT_SECONDS = 2.0
INBOX_RETENTION_SECONDS = 30 * 24 * 3600
"""
IMPORT_EVERYTHING = """
import importlib, pkgutil, django
django.setup()
import idempotency
for module in pkgutil.walk_packages(idempotency.__path__, "idempotency."):
    importlib.import_module(module.name)
"""


@pytest.fixture
def other_project(tmp_path):
    """Return a function that runs Python in a folder with only the other project, `idempotency` and `foundation`."""
    for package in ("idempotency", "foundation"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments, settings=SETTINGS):
        (tmp_path / "other_settings.py").write_text(OTHER_PROJECT + settings, encoding="utf-8")
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "other_settings"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_every_module_can_be_imported(other_project):
    outcome = other_project("-c", IMPORT_EVERYTHING)
    assert outcome.returncode == 0, outcome.stderr


def test_the_checks_accept_complete_settings(other_project):
    outcome = other_project("-m", "django", "check", "--fail-level", "WARNING")
    assert outcome.returncode == 0, outcome.stderr


def test_the_checks_name_every_missing_setting(other_project):
    outcome = other_project("-m", "django", "check", settings="")
    missing = [line.partition(" =")[0] for line in SETTINGS.split("\n") if line]
    assert outcome.returncode == 1
    assert [name for name in missing if f"The setting {name} is missing." not in outcome.stderr] == []
