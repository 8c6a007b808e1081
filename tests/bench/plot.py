"""Bar charts as SVG, readable on a light and on a dark page."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.report import TITLES

if TYPE_CHECKING:
    from tests.bench.results import Medians

# File name, title and figure of each chart: more is better in all of them.
CHARTS = (
    ("accept", "Accepted requests per second, new keys, workers on", "accept_per_second"),
    ("replay", "Replayed requests per second", "replay_per_second"),
    ("finish", "Finished short jobs per second, from a backlog", "finished_per_second"),
    ("calls", "Finished jobs per second, each with one 100 ms call", "calls_per_second"),
)
OURS = "semel"
_WIDTH, _LABELS, _NUMBERS, _BAR, _STEP, _TOP = 640, 170, 70, 18, 28, 40
_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.bar { fill: #8c959f }
.ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .ours { fill: #4493f8 }
}"""


def write_charts(folder: Path, medians: Medians) -> list[Path]:
    """Write a chart for each figure that was measured, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, title, figure in CHARTS:
        values = {TITLES[each]: medians[each][figure] for each in TITLES if figure in medians.get(each, {})}
        if values:
            file = folder / f"{name}.svg"
            file.write_text(bar_chart(title, values, ours=TITLES[OURS]), encoding="utf-8")
            files.append(file)
    return files


def bar_chart(title: str, values: dict[str, float], *, ours: str) -> str:
    """Return an SVG with a horizontal bar for each value; the longest one takes the whole width."""
    longest = max(values.values()) or 1.0
    room = _WIDTH - _LABELS - _NUMBERS
    height = _TOP + _STEP * len(values)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        f'<text class="title" x="0" y="18">{escape(title)}</text>',
    ]
    for row, (label, value) in enumerate(values.items()):
        top, width = _TOP + row * _STEP, room * value / longest
        kind, baseline = "bar ours" if label == ours else "bar", top + _BAR - 4
        parts += [
            f'<text x="{_LABELS - 8}" y="{baseline}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
            f'<text x="{_LABELS + width + 6:.1f}" y="{baseline}">{value:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
