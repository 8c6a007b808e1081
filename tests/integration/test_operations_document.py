"""Run the code of docs/tutorial/write-an-operation.md, its tests included."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.django_db

DOCUMENT = Path(__file__).parents[2] / "docs" / "tutorial" / "write-an-operation.md"
NAME = "the_operations_document"


def _read():
    """A module of all the document's code, in its order."""
    module = ModuleType(NAME)
    sys.modules[NAME] = module
    text = DOCUMENT.read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, str(DOCUMENT), "exec"), vars(module))  # noqa: S102 - our own document
    return module


document = _read()
TESTS = [name for name in vars(document) if name.startswith("test_")]


def test_the_document_ends_in_crash_tests():
    assert len(TESTS) == 6
    assert sum("wherever_its_worker_dies" in name for name in TESTS) == 2


@pytest.mark.parametrize("name", TESTS)
def test_the_code_of_the_page_passes_its_own_tests(name, tenant):
    getattr(document, name)(tenant)
