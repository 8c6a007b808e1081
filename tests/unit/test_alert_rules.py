"""Alert rules, their tests, the runbook and the existing metrics agree with each other."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from devstack.processes import ROOT
from observability.metrics.database_metrics import DatabaseCollector
from observability.metrics.registry import REGISTRY

RULES = ROOT / "deploy" / "prometheus"
RUNBOOK_FILE = ROOT / "docs" / "how-to" / "runbook.md"
RUNBOOK = RUNBOOK_FILE.read_text(encoding="utf-8")
# Suffixes of the series of each type of metric.
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def rules(name):
    groups = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
RECORDED = {rule["record"]: rule for rule in rules("recording.yml")}
TEST_FILES = ("rules_test.yml", "rules_by_day_test.yml")
TESTS = [test for name in TEST_FILES for test in yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["tests"]]


def known_metrics():
    """Return the name of every possible series, with its labels."""
    counted = {
        metric.name + suffix: set(collector._labelnames)
        for collector in REGISTRY._collector_to_names
        for metric in collector.describe()
        for suffix in SUFFIXES[metric.type]
    }
    return counted | {metric.name: set(metric._labelnames) for metric in DatabaseCollector().describe()}


def anchors(text):
    """Return the anchor that GitHub gives each heading (we use no other marks than dashes and spaces)."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def queries():
    """Return every expression in PromQL: of alerts, of recording rules, and of the runbook."""
    expressions = [rule["expr"] for rule in (*ALERTS.values(), *RECORDED.values())]
    return expressions + re.findall(r"```promql\n(.*?)```", RUNBOOK, flags=re.DOTALL)


def test_every_queried_metric_exists():
    queried = {name for text in (*queries(), RUNBOOK) for name in re.findall(r"\bsemel_\w+", text)}
    assert queried >= {"semel_audit_violations_total", "semel_up"}
    known = known_metrics()
    # In prose a family may be named by its beginning.
    assert not [name for name in queried if name not in known and not name.endswith("_")]


def test_every_queried_label_exists():
    known = known_metrics()
    for text in queries():
        for name, matchers in re.findall(r"\b(semel_\w+){(.*?)}", text):
            queried = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers)) - {"le"}
            assert queried <= known[name], (name, queried)


def test_every_queried_recording_rule_exists():
    queried = {name for text in queries() for name in re.findall(r"\bsemel:[\w:]+", text)}
    assert queried <= set(RECORDED)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_severity_a_summary_and_a_runbook_link(name):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/how-to/runbook.md#{name.lower()}"


def test_alerts_and_sections_of_the_runbook_correspond():
    assert re.findall(r"^## (Semel\w+)$", RUNBOOK, flags=re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_has_meaning_diagnosis_action_and_warning(name):
    section = RUNBOOK.split(f"## {name}\n")[1].split("\n## ")[0]
    assert "**Means**" in section
    assert re.search(r"\*\*(Look|Look, do)\*\*", section)
    assert re.search(r"\*\*(Do|Look, do)\*\*|same questions", section)
    assert "**Do not**" in section


def test_every_link_of_the_runbook_resolves():
    for file, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", RUNBOOK):
        assert not file or (RUNBOOK_FILE.parent / file).exists(), file
        assert not anchor or anchor in anchors(RUNBOOK), anchor


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_test_that_fires_it_and_one_that_does_not(name):
    tests = [one for test in TESTS for one in test.get("alert_rule_test", ()) if one["alertname"] == name]
    assert {bool(one["exp_alerts"]) for one in tests} == {True, False}


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on the PATH: Debian's package prometheus has it"
)
@pytest.mark.parametrize(
    "arguments", [("check", "rules", "recording.yml", "alerts.yml"), ("test", "rules", *TEST_FILES)]
)
def test_promtool_accepts_the_rules_and_their_tests_pass(arguments):
    ended = subprocess.run(["promtool", *arguments], cwd=RULES, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
