"""python -m tests.bench, started by `run.py bench`: measure Semel beside what a team would build or pick instead."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.console import Console, LauncherError
from devstack.environment import forget_outside_servers
from devstack.stopping import Interrupted, Interrupts
from devstack.supervisor import Supervisor
from tests.bench.contestants import CONTESTANTS
from tests.bench.contestants.contestant import NotMeasured
from tests.bench.generator import measure_generator
from tests.bench.host import Host
from tests.bench.parts import PARTS
from tests.bench.plot import write_charts
from tests.bench.report import render
from tests.bench.results import Results
from tests.bench.scale import Scale
from tests.bench.yardsticks import yardsticks_python

if TYPE_CHECKING:
    from argparse import Namespace


def main(arguments: list[str]) -> int:
    """Run the rounds and print the table. Return 0 if every target that was measured is met, else 3."""
    options = _parse(arguments)
    console = Console()
    forget_outside_servers()  # all contestants use the same embedded servers
    if set(options.contestants) != {"semel"}:
        yardsticks_python()  # installs them before anything is started
    scale = Scale(seconds=options.seconds, minutes=options.minutes)
    results = Results.of_this_machine(options.rounds, scale)
    with Interrupts() as interrupts:
        try:
            with Supervisor(interrupts) as supervisor:
                host = Host(supervisor)
                results.add("generator", measure_generator(host))
                for number, part, name in _plan(options):
                    console.print(f"round {number} of {options.rounds}: {part} of {name}")
                    results.add(name, _measure(host, part, name, scale))
        except Interrupted as interrupted:
            return interrupted.exit_code
        except LauncherError as error:
            print(f"run.py bench: {error}", file=sys.stderr)
            return 1
    if options.json:
        results.write(options.json)
    if options.plot:
        write_charts(options.plot, results.medians())
    text, is_met = render(results.medians())
    print(text, flush=True)
    return 0 if is_met else 3


def _measure(host: Host, part: str, name: str, scale: Scale) -> dict[str, float]:
    """Start the contestant, measure one part of it, print the numbers and return them; none if it cannot be measured."""
    try:
        with CONTESTANTS[name](host, delay_ms=PARTS[part].delay_ms) as contestant:
            numbers = PARTS[part].measure(contestant, scale)
    except NotMeasured as reason:
        print(f"          not measured: {reason}", flush=True)
        return {}
    if PARTS[part].delay_ms:
        numbers = {f"far_{figure}": value for figure, value in numbers.items()}
    for figure, value in numbers.items():
        print(f"          {figure:32} {value:10.2f}", flush=True)
    return numbers


def _plan(options: Namespace) -> Iterator[tuple[int, str, str]]:
    """Yield what is measured when: the contestants of a part one after the other, so that they find the same machine."""
    parts = options.only or [name for name, part in PARTS.items() if options.full or not part.is_full]
    for number in range(1, options.rounds + 1):
        for part in parts:
            for name in PARTS[part].contestants:
                if name in options.contestants and not (number > 1 and PARTS[part].is_full):
                    yield number, part, name


def _parse(arguments: list[str]) -> Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py bench",
        description="Measure Semel beside what a team would build or pick instead, on one PostgreSQL and one Valkey.",
        epilog="Exits with 3 if a target is missed. Example: run.py bench --rounds 1 --only accept --contestants semel",
        allow_abbrev=False,
    )
    usual = Scale()
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds; the table shows medians (3)")
    parser.add_argument(
        "--seconds", type=float, default=usual.seconds, metavar="S", help="length of each load (%(default)g)"
    )
    parser.add_argument(
        "--full", action="store_true", help="also measure connections, sizes, a snapshot and delays, once"
    )
    parser.add_argument(
        "--only", "--figures", nargs="+", choices=PARTS, metavar="PART", help=f"of these: {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--contestants",
        nargs="+",
        choices=CONTESTANTS,
        default=list(CONTESTANTS),
        metavar="NAME",
        help=f"of these: {', '.join(CONTESTANTS)}",
    )
    parser.add_argument(
        "--minutes", type=float, default=usual.minutes, metavar="M", help="how long the snapshot is held (%(default)g)"
    )
    parser.add_argument("--plot", type=Path, metavar="DIR", help="also write bar charts (SVG) to this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round and the medians to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
