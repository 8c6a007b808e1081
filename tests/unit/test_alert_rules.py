"""Alert rules, their tests, the runbook and the figures that there are agree with one another."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from devstack.processes import ROOT
from observability.metrics.database_metrics import StandingCollector
from observability.metrics.registry import REGISTRY

RULES = ROOT / "deploy" / "prometheus"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
# What a counter or a histogram is called when it is read.
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def rules(name):
    groups = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
RECORDED = {rule["record"]: rule for rule in rules("recording.yml")}
TEST_FILES = ("rules_test.yml", "rules_by_day_test.yml")
TESTS = [
    test
    for name in TEST_FILES
    for test in yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["tests"]
]


def figures():
    """The name of every series that there can be, with the labels that it has."""
    counted = {
        metric.name + suffix: set(collector._labelnames)
        for collector in REGISTRY._collector_to_names
        for metric in collector.describe()
        for suffix in SUFFIXES[metric.type]
    }
    return counted | {metric.name: set(metric._labelnames) for metric in StandingCollector().describe()}


def anchors(text):
    """What GitHub makes of each heading (of the marks in a heading, only dashes and spaces are ours)."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def queries():
    """Every expression in PromQL: of alerts, of recorded figures, and of the runbook."""
    told = [rule["expr"] for rule in (*ALERTS.values(), *RECORDED.values())]
    return told + re.findall(r"```promql\n(.*?)```", RUNBOOK, flags=re.DOTALL)


def test_every_figure_that_is_asked_for_exists():
    asked = {name for text in (*queries(), RUNBOOK) for name in re.findall(r"\bsemel_\w+", text)}
    assert asked >= {"semel_audit_violations_total", "semel_up"}
    exist = figures()
    # In prose a family may be named by its beginning.
    assert not [name for name in asked if name not in exist and not name.endswith("_")]


def test_every_label_that_is_asked_for_exists():
    exist = figures()
    for text in queries():
        for name, matchers in re.findall(r"\b(semel_\w+){(.*?)}", text):
            asked = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers)) - {"le"}
            assert asked <= exist[name], (name, asked)


def test_every_recorded_figure_that_is_asked_for_is_recorded():
    asked = {name for text in queries() for name in re.findall(r"\bsemel:[\w:]+", text)}
    assert asked <= set(RECORDED)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_where_its_section_stands(name):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_each_alert_has_its_section_and_each_section_of_an_alert_its_alert():
    assert re.findall(r"^## (Semel\w+)$", RUNBOOK, flags=re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_says_what_it_means_how_to_look_what_to_do_and_what_not(name):
    section = RUNBOOK.split(f"## {name}\n")[1].split("\n## ")[0]
    assert "**Means**" in section
    assert re.search(r"\*\*(Look|Look, do)\*\*", section)
    assert re.search(r"\*\*(Do|Look, do)\*\*|same questions", section)
    assert "**Do not**" in section


def test_every_place_that_the_runbook_points_to_is_there():
    for file, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", RUNBOOK):
        assert not file or (ROOT / "docs" / file).exists(), file
        assert not anchor or anchor in anchors(RUNBOOK), anchor


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(name):
    told = [one for test in TESTS for one in test.get("alert_rule_test", ()) if one["alertname"] == name]
    assert {bool(one["exp_alerts"]) for one in told} == {True, False}


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on the PATH: Debian's package prometheus has it"
)
@pytest.mark.parametrize(
    "words", [("check", "rules", "recording.yml", "alerts.yml"), ("test", "rules", *TEST_FILES)]
)
def test_prometheus_itself_takes_the_rules_and_each_fires_when_it_should(words):
    told = subprocess.run(["promtool", *words], cwd=RULES, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
