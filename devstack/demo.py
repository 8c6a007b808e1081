"""``run.py demo``: the product at work, counted from outside."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from devstack.console import Console
from devstack.demo_client import Row, Stage
from devstack.demo_settings import TEMPO
from devstack.environment import OUTSIDE, ours_alone
from devstack.errors import LauncherError
from devstack.folder import Folder
from devstack.interrupts import Interrupted, Interrupts
from devstack.ports import free_port
from devstack.scenarios import SCENES
from devstack.stack import Stack
from devstack.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADINGS = ("scenario", "requests", "jobs", "charges", "replays", "as it should be")


def demo() -> int:
    """0 if every figure is what it should be; nothing is left behind in any case."""
    console = Console()
    ours_alone(OUTSIDE)
    with Interrupts() as interrupts:
        try:
            with Supervisor(interrupts) as supervisor:
                console.say("Starting PostgreSQL, Valkey and Semel in a temporary folder.")
                folder = Folder(supervisor.scratch / "data")
                stack = Stack(supervisor, folder, console, port=free_port(), tempo=TEMPO)
                stack.start(outside=None)
                rows = _play(stack, console)
        except Interrupted as interrupted:
            console.say("Stopped before the end.")
            return interrupted.exit_code
    is_right = all(row.is_right for row in rows)
    console.say("Everything is stopped and removed.")
    print("\n" + table(rows), flush=True)
    print(
        "\nEach figure is what it should be." if is_right else "\nNot every figure is what it should be.",
        flush=True,
    )
    return 0 if is_right else 1


def _play(stack: Stack, console: Console) -> list[Row]:
    stage = Stage(stack, console)
    try:
        rows = [scene(stage) for scene in SCENES]
        return [*rows, stage.total(rows)]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise LauncherError(f"The demo broke off: {type(error).__name__}: {error}") from error


def table(rows: Sequence[Row]) -> str:
    """The figures in columns; where one is wrong, what it should have been."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(_line(line, widths) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    counted, expected = row.counted, row.expected
    names = ("requests", "jobs", "charges", "replays")
    pairs = {name: (getattr(counted, name), getattr(expected, name)) for name in names}
    wrong = [f"{name} {should}, not {have}" for name, (have, should) in pairs.items() if have != should]
    verdict = "; ".join([*wrong, *row.complaints]) or "yes"
    return (row.scene, *(str(have) for have, _ in pairs.values()), verdict)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, figures to the right."""
    first, *figures, last = cells
    middle = [figure.rjust(width) for figure, width in zip(figures, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *middle, last]).rstrip()
