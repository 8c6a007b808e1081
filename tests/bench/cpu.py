"""CPU time and memory of process trees, as the kernel counts them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable

import psutil


def tree_cpu_seconds(pids: Iterable[int], *, without: Collection[int] = ()) -> float:
    """Return the CPU seconds of these processes and all their descendants, of those that have ended as well.

    A process counts what its ended children used once it has waited for them, so the sum only rises.
    """
    return sum(_own(process) for process in _trees(pids) if process.pid not in without)


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
