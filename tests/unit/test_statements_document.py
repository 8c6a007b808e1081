"""docs/statements.sql shows the hot statements as rendered."""

from __future__ import annotations

from tests.support.statements import DOCUMENT, document


def test_the_document_matches_the_statements():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run: python -m tests.support.statements"
