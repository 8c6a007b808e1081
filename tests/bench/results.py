"""The numbers of all rounds, and the machine on which they were measured."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.arguments import ROOT

if TYPE_CHECKING:
    from tests.bench.scale import Scale

Medians = Mapping[str, Mapping[str, float]]  # by contestant, then by figure


@dataclass
class Results:
    """Every number that was measured: by contestant and figure, one for each round."""

    machine: dict[str, str | int | float]
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @classmethod
    def of_this_machine(cls, rounds: int, scale: Scale) -> Results:
        """Return empty results that say where and how they come about."""
        machine: dict[str, str | int | float] = {
            "commit": _commit(),
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            "system": platform.platform(),
            "python": platform.python_version(),
            "load_average": os.getloadavg()[0],
            "rounds": rounds,
            **asdict(scale),
        }
        return cls(machine)

    def add(self, contestant: str, numbers: Mapping[str, float]) -> None:
        """Add the numbers of one round."""
        measured = self.rounds.setdefault(contestant, {})
        for figure, value in numbers.items():
            measured.setdefault(figure, []).append(value)

    def medians(self) -> Medians:
        """Return the median of each figure."""
        return {
            contestant: {figure: statistics.median(values) for figure, values in measured.items()}
            for contestant, measured in self.rounds.items()
        }

    def write(self, file: Path) -> None:
        """Write everything as JSON."""
        content = {**asdict(self), "medians": self.medians()}
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Results:
        """Return the results in a file that ``write`` has written."""
        content = json.loads(file.read_text(encoding="utf-8"))
        return cls(content["machine"], content["rounds"])


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not a git checkout"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
