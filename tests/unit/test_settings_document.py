"""docs/settings.md has every variable that is read, with its default and its reason."""

from __future__ import annotations

import re

from tests.support.settings_document import DOCUMENT, ROOT, SOURCE, document, settings

TOLD = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_page_is_what_the_settings_say():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), (
        "python -m tests.support.settings_document writes it anew"
    )


def test_every_variable_that_is_read_is_told():
    source = SOURCE.read_text(encoding="utf-8")
    read = set(re.findall(r"\benv\.\w+\(\s*\"(\w+)\"", source))
    assert len(read) > 70
    assert read <= TOLD
    assert not re.search(r"os\.environ|getenv", source)


def test_every_variable_that_compose_asks_for_is_told():
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)", compose)) <= TOLD


def test_every_variable_of_the_example_is_told():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) <= TOLD


def test_each_has_its_reason():
    """A comment over it in the settings."""
    assert [one.name for one in settings(SOURCE.read_text(encoding="utf-8")) if not one.reason] == []
