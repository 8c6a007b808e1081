"""``run.py bench``: hand over to the benchmark."""

import os
import sys
from collections.abc import Sequence
from typing import Never


def bench(arguments: Sequence[str]) -> Never:
    """Replace this process by tests/bench, which starts and stops what it measures."""
    os.execv(sys.executable, [sys.executable, "-m", "tests.bench", *arguments])
