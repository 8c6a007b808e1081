"""The page about states shows the rules of states.py: diagram, table, guards."""

from __future__ import annotations

import re
from pathlib import Path

from jobs.states import RULES, TERMINAL, Fence, Guard, State

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "states.md").read_text()
NOTHING = "\N{EN DASH}"


def rows(heading):
    """Return the cells of the table under the heading, without its header."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_diagram_has_an_arrow_for_each_rule_and_no_other():
    arrows = re.findall(r"^ +(\S+) --> (\S+?)(?:: (\S+))?$", PAGE, re.MULTILINE)
    edges = {(source.value, rule.target.value, rule.event.value) for rule in RULES for source in rule.sources}
    ends = {(state.value, "[*]", "") for state in TERMINAL}
    assert set(arrows) == edges | ends | {("[*]", "queued", "submit")}
    assert len(arrows) == len(set(arrows))


def test_the_table_has_a_row_for_each_rule_in_the_order_in_which_they_are_tried():
    submit, *others = rows("Rules")
    assert submit[:5] == ["submit", NOTHING, "queued", NOTHING, Fence.NONE]
    assert [row[:5] for row in others] == [
        [
            rule.event,
            ", ".join(state for state in State if state in rule.sources),
            rule.target + " (reconcile only)" * rule.reconcile_only,
            ", ".join(rule.guards) or NOTHING,
            rule.fence,
        ]
        for rule in RULES
    ]
    assert all(who for *_, who in [submit, *others])


def test_each_guard_is_explained():
    assert [guard for guard, _ in rows("Guards")] == list(Guard)


def test_each_state_names_what_changes_it():
    listed = [state for states, *_ in rows("Who changes a job") for state in states.split(", ")]
    assert sorted(listed) == sorted(State)
