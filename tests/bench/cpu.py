"""CPU time and memory of process trees, as the kernel counts them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields

import psutil


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far, by kind of process."""

    api: float
    worker: float
    postgres: float
    broker: float
    others: float  # outside of the benchmark: they slow down what is measured

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(*(getattr(self, each.name) - getattr(earlier, each.name) for each in fields(self)))


def tree_cpu_seconds(pids: Iterable[int], *, without: Collection[int] = ()) -> float:
    """Return the CPU seconds of these processes and all their descendants, of those that have ended as well.

    A process counts what its ended children used once it has waited for them, so the sum only rises.
    """
    return sum(_own(process) for process in _trees(pids) if process.pid not in without)


def other_cpu_seconds() -> float:
    """Return the CPU seconds of this machine that were not used by the benchmark and what it has started."""
    times = psutil.cpu_times()
    busy = sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))
    return float(busy) - tree_cpu_seconds([os.getpid()])


def tree_pss_bytes(pids: Iterable[int]) -> int:
    """Return the memory of these processes and their descendants; a page that n of them share counts once (PSS)."""
    total = 0
    for process in _trees(pids):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def _trees(pids: Iterable[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            found += [root, *root.children(recursive=True)]
    return found


def _own(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0
