"""The queries and commands of the runbook work, and the queries change nothing."""

from __future__ import annotations

import re

import pytest
from django.core.management import load_command_class
from django.db import connection, transaction

from devstack.processes import ROOT
from tests.support.factories import claimed_job, queued_job

RUNBOOK = (ROOT / "docs" / "how-to" / "runbook.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", RUNBOOK, flags=re.DOTALL)
OWN_COMMANDS = sorted(set(re.findall(r"^manage\.py (\w+)$|`manage\.py (\w+)", RUNBOOK, flags=re.MULTILINE)))
APPS = ("accounts", "observability", "workers", "django.core")


@pytest.mark.parametrize("statement", STATEMENTS, ids=range(len(STATEMENTS)))
def test_a_query_of_the_runbook_runs_and_only_reads(tenant, statement):
    queued_job(tenant)
    claimed_job(tenant)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL transaction_read_only = on")
        cursor.execute(statement)
        cursor.fetchall()
    assert re.match(r"\s*SELECT\b", statement)
    assert ";" not in statement.strip().rstrip(";")


@pytest.mark.parametrize("name", sorted({one or other for one, other in OWN_COMMANDS}))
def test_a_command_of_the_runbook_exists(name):
    def found(app):
        try:
            return load_command_class(app, name)
        except ModuleNotFoundError:
            return None

    assert any(found(app) for app in APPS), name
