"""docs/reference/settings.md lists every variable that is read, with its default and its reason."""

from __future__ import annotations

import re

from tests.support.settings_document import DOCUMENT, FOLDER, ROOT, SOURCES, all_settings, document

DOCUMENTED = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_page_matches_the_settings():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run: python -m tests.support.settings_document"


def test_every_variable_that_is_read_is_documented():
    source = "".join(file.read_text(encoding="utf-8") for file in SOURCES)
    read = set(re.findall(r"\benv\.\w+\(\s*\"(\w+)\"", source))
    assert len(read) > 70
    assert read <= DOCUMENTED
    assert not re.search(r"os\.environ|getenv", source)


def test_every_variable_of_the_compose_file_is_documented():
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)", compose)) <= DOCUMENTED


def test_every_variable_of_the_example_file_is_documented():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) <= DOCUMENTED


def test_every_variable_has_a_reason():
    """The reason is the comment above it."""
    assert [one.name for one in all_settings() if not one.reason] == []


def test_every_file_of_settings_is_loaded():
    assert {file.name for file in SOURCES} == {file.name for file in FOLDER.glob("[a-z]*.py")}
