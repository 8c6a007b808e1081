"""`manage.py startoperation` writes a working operation and its test, and overwrites nothing."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from django.core.management import CommandError, call_command

from jobs.checks import _errors_of


@pytest.fixture
def root(tmp_path):
    for folder in ("operations", "tests/integration"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def load(file, name):
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.django_db
def test_the_written_operation_passes_the_checks_and_its_own_tests(root, tenant, capsys):
    call_command("startoperation", "crm.sync_contact", root=root)
    output = capsys.readouterr().out
    assert "wrote operations/sync_contact.py" in output
    assert '"operations.sync_contact.SyncContact"' in output
    load(root / "operations/sync_contact.py", "operations.sync_contact")
    assert list(_errors_of("operations.sync_contact.SyncContact")) == []
    tests = load(root / "tests/integration/test_sync_contact.py", "test_sync_contact")
    run = (
        tests.run.__wrapped__(tenant)
        if hasattr(tests.run, "__wrapped__")
        else tests.run._get_wrapped_function()(tenant)
    )
    written = [getattr(tests, name) for name in vars(tests) if name.startswith("test_")]
    assert len(written) == 2
    given = next(run)
    for test in written:
        test(given)
    assert next(run, "over") == "over"


@pytest.mark.parametrize("name", ["Sync", "sync", "crm.", ".x", "crm.Sync", "crm.a-b", "../x.y", ""])
def test_an_invalid_name_is_refused(root, name):
    with pytest.raises(CommandError, match=r"<noun>\.<verb>"):
        call_command("startoperation", name, root=root)
    assert not list(root.rglob("*.py"))


@pytest.mark.parametrize("there", ["operations/sync_contact.py", "tests/integration/test_sync_contact.py"])
def test_no_file_is_overwritten_and_none_is_written_alone(root, there):
    (root / there).write_text("mine")
    with pytest.raises(CommandError, match="exists already"):
        call_command("startoperation", "crm.sync_contact", root=root)
    assert [(file.relative_to(root).as_posix(), file.read_text()) for file in root.rglob("*.py")] == [(there, "mine")]


def test_in_another_folder_it_names_the_root_option(tmp_path):
    with pytest.raises(CommandError, match="--root"):
        call_command("startoperation", "crm.sync_contact", root=tmp_path)
