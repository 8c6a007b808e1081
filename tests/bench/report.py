"""The table: each figure of each contestant, with the ratios and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.figures import FIGURES, Bound, Figure

if TYPE_CHECKING:
    from tests.bench.results import Medians

TITLES = {
    "semel": "Semel",
    "naive": "naive",
    "kept": "naive, kept connections",
    "dbos": "DBOS",
    "celery": "plain Celery",
}
# Above this share of the generator's capacity, a rate may be the generator's.
GENERATOR_SHARE = 0.7
# Above so many cores used by other processes, rates are too low and ratios are unfair.
OTHER_CORES = 0.2
_RATES = ("accept_per_second", "accept_alone_per_second", "replay_per_second")


def render(medians: Medians) -> tuple[str, bool]:
    """Return the table in Markdown with aligned columns, and whether every target that was measured is met."""
    names = [name for name in TITLES if name in medians]
    rows = [["figure", *(TITLES[name] for name in names), "targets"]]
    is_met = True
    for figure in FIGURES:
        if any(figure.key in medians[name] for name in names):
            targets, are_met = _targets(figure, medians)
            is_met = is_met and are_met
            rows.append([figure.title, *(_cell(figure, medians[name]) for name in names), targets])
    return "\n".join(["", *_aligned(rows), "", *_generator_lines(medians), *_disturbances(medians)]), is_met


def _targets(figure: Figure, medians: Medians) -> tuple[str, bool]:
    texts, are_met = [], True
    for bound in figure.bounds:
        value = bound.measured(figure.key, medians)
        if value is not None:
            are_met = are_met and bound.is_met_by(value)
            texts.append(_target(bound, value))
    return "; ".join(texts), are_met


def _target(bound: Bound, value: float) -> str:
    """Return a target as text: "1.31 x naive (≥ 2: missed)"."""
    sign, verdict = "≤" if bound.is_maximum else "≥", "met" if bound.is_met_by(value) else "missed"
    if not bound.of:
        return f"{sign} {bound.number:g}: {verdict}"
    of = TITLES.get(bound.of) or "accept"
    return f"{value:.2f} x {of} ({sign} {bound.number:g}: {verdict})"


def _cell(figure: Figure, measured: object) -> str:
    assert isinstance(measured, dict)
    return f"{measured[figure.key]:,.{figure.digits}f}" if figure.key in measured else ""


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    ruler = [["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:-1]), "-" * widths[-1]]]
    lines = []
    for first, *numbers, last in [rows[0], *ruler, *rows[1:]]:
        cells = [first.ljust(widths[0])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[1:-1], strict=True)]
        lines.append(f"| {' | '.join([*cells, last.ljust(widths[-1])])} |")
    return lines


def _generator_lines(medians: Medians) -> list[str]:
    """Return what the load generator costs, and a warning for each rate that may be its own."""
    generator = medians.get("generator")
    if not generator:
        return []
    capacity = generator["generator_per_second"]
    cost = 1_000 * generator["generator_cpu_ms"]
    lines = [f"The load generator can send {capacity:,.0f} requests per second here, with {cost:.0f} µs of CPU each."]
    lines += [
        f"WARNING: {TITLES[name]}: {rate} is above {GENERATOR_SHARE:.0%} of that, and may be the generator's."
        for name in TITLES
        for rate in _RATES
        if medians.get(name, {}).get(rate, 0) > GENERATOR_SHARE * capacity
    ]
    return lines


def _disturbances(medians: Medians) -> list[str]:
    """Return a warning for each part during which other processes used the machine."""
    suffix = "_other_cores"
    return [
        f"WARNING: {TITLES[name]}: during {figure.removesuffix(suffix)}, other processes used {value:.1f} cores."
        for name in TITLES
        for figure, value in medians.get(name, {}).items()
        if figure.endswith(suffix) and value > OTHER_CORES
    ]
