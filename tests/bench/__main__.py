"""`python3 run.py bench`: measure Semel beside what a team would build or pick instead, on one database and broker."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from devstack.console import Console
from devstack.environment import base_environment, forget_outside_servers
from devstack.folder import Folder
from devstack.stack import embed_servers
from devstack.stopping import Interrupted, Interrupts
from devstack.supervisor import Supervisor
from tests.bench import figures
from tests.bench.contestants import Arena, Contestant, Dbos, Naive, Semel
from tests.bench.report import render

CONTESTANTS: dict[str, type[Contestant]] = {"semel": Semel, "naive": Naive, "dbos": Dbos}
Results = dict[str, dict[str, list[float]]]


def main(arguments: list[str]) -> int:
    """Run the rounds and print the table; return 0 if every target is met, else 3."""
    options = _parse(arguments)
    console = Console()
    forget_outside_servers()
    results: Results = {}
    with Interrupts() as interrupts:
        try:
            with Supervisor(interrupts) as supervisor:
                folder = Folder(supervisor.scratch / "servers")
                urls = embed_servers(supervisor, folder, base_environment(supervisor.tag))
                arena = Arena(supervisor, console, *urls)
                for number in range(1, options.rounds + 1):
                    for name in options.contestants:
                        console.print(f"Round {number} of {options.rounds}: {name}")
                        _measure(CONTESTANTS[name](arena), options, results)
        except Interrupted as interrupted:
            return interrupted.exit_code
    medians = {
        name: {figure: statistics.median(values) for figure, values in measured.items()}
        for name, measured in results.items()
    }
    if options.json:
        Path(options.json).write_text(json.dumps(medians, indent=2) + "\n", encoding="utf-8")
    text, is_met = render(medians)
    print(text, flush=True)
    return 0 if is_met else 3


def _measure(contestant: Contestant, options: argparse.Namespace, results: Results) -> None:
    measured = results.setdefault(contestant.name, defaultdict(list))
    contestant.start()
    try:
        for figure in options.figures:
            numbers: figures.Numbers = {}
            match figure:
                case "accept":
                    numbers = figures.accept(contestant, options.seconds)
                case "finish":
                    numbers = figures.accept_alone(contestant, options.seconds) | figures.drain(contestant)
                case "calls":
                    numbers = figures.calls(contestant, options.seconds)
                case "idle" if isinstance(contestant, Semel):
                    numbers = figures.idle(contestant)
            for name, value in numbers.items():
                measured[name].append(value)
                contestant.arena.console.print_more(f"{name:32} {value:10.2f}")
    finally:
        contestant.stop()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds; the table shows medians (3)")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="length of each load (8)")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    names = ("idle", "accept", "finish", "calls")
    parser.add_argument("--figures", nargs="+", choices=names, default=list(names))
    parser.add_argument("--json", metavar="FILE", help="also write the medians to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
