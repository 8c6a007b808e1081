"""The table of the benchmark: figures of each contestant, ratios and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Figures = Mapping[str, Mapping[str, float]]  # by contestant, then by figure


@dataclass(frozen=True)
class Target:
    """A figure of Semel, alone or in relation to another, and its bound."""

    text: str
    value: Callable[[Figures], float]
    bound: float
    is_maximum: bool = False

    def is_met_by(self, value: float) -> bool:
        """Return whether the value is within the bound."""
        return value <= self.bound if self.is_maximum else value >= self.bound


def _own(figure: str) -> Callable[[Figures], float]:
    return lambda all_figures: all_figures["semel"][figure]


def _ratio(figure: str, peer: str) -> Callable[[Figures], float]:
    return lambda all_figures: all_figures["semel"][figure] / all_figures[peer][figure]


TARGETS = (
    Target("accept, new keys, workers on: times naive", _ratio("accept_per_second", "naive"), 2),
    Target("accept, new keys, workers on: times DBOS", _ratio("accept_per_second", "dbos"), 5),
    Target("CPU per accept, api (ms)", _own("accept_alone_api_cpu_ms"), 0.9, is_maximum=True),
    Target("CPU per accept, PostgreSQL (ms)", _own("accept_postgres_cpu_ms"), 0.4, is_maximum=True),
    Target(
        "replay: times accept",
        lambda all_figures: all_figures["semel"]["replay_per_second"] / all_figures["semel"]["accept_per_second"],
        2,
    ),
    Target("finished from a backlog: times naive", _ratio("finished_per_second", "naive"), 3),
    Target("finished from a backlog: times DBOS", _ratio("finished_per_second", "dbos"), 3),
    Target("CPU per finished job, worker (ms)", _own("finished_worker_cpu_ms"), 1.0, is_maximum=True),
    Target("CPU per finished job, PostgreSQL (ms)", _own("finished_postgres_cpu_ms"), 0.6, is_maximum=True),
    Target("finished, one 100 ms call each (1/s)", _own("calls_per_second"), 250),
    Target("finished, one 100 ms call each: times DBOS", _ratio("calls_per_second", "dbos"), 1),
    Target("finished, one 100 ms call each: times naive", _ratio("calls_per_second", "naive"), 12),
    Target("memory of the workers at 32 calls (MB, PSS)", _own("workers_pss_mb"), 300, is_maximum=True),
    Target("202 to first line, idle, p50 (ms)", _own("start_p50_ms"), 8, is_maximum=True),
    Target("202 to first line, idle, p99 (ms)", _own("start_p99_ms"), 25, is_maximum=True),
)


def render(figures: Figures) -> tuple[str, bool]:
    """Return both tables, and whether every target that could be measured is met."""
    names = list(figures)
    lines = ["", "| figure | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for figure in dict.fromkeys(figure for measured in figures.values() for figure in measured):
        cells = [f"{figures[name][figure]:.2f}" if figure in figures[name] else "" for name in names]
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    lines += ["", "| target | bound | measured | |", "|---|---:|---:|---|"]
    is_met = True
    for target in TARGETS:
        try:
            value = target.value(figures)
        except KeyError:  # this contestant or figure was left out
            continue
        met = target.is_met_by(value)
        is_met = is_met and met
        sign = "≤" if target.is_maximum else "≥"
        lines.append(f"| {target.text} | {sign} {target.bound} | {value:.2f} | {'met' if met else 'missed'} |")
    return "\n".join(lines), is_met
