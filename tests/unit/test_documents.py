"""The documents refer to each other, and the code refers to the documents, without a dead link."""

from __future__ import annotations

import re
import subprocess

import pytest

from devstack.processes import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([\w-]+))?\)")
SOURCE = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/[\w-]+\.(?:py|yaml|yml|conf))`")
PATH = re.compile(r"(?<![\w/.])docs/[\w./-]+\.(?:md|sql)")


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_has_a_target(page):
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), (path, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_source_file_that_a_page_names_exists(page):
    named = SOURCE.findall(page.read_text(encoding="utf-8"))
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_the_index_lists_every_page():
    index = DOCS / "README.md"
    listed = {(DOCS / path).resolve() for path, _ in LINK.findall(index.read_text(encoding="utf-8"))}
    assert set(DOCS.rglob("*.md")) - {index} <= listed


def test_every_document_that_a_file_names_exists():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    named = {
        (path, file)
        for file in listing.stdout.split("\0")
        if file.endswith((".py", ".md", ".toml", ".yml", ".yaml", ".html", ".example", ".conf"))
        for path in PATH.findall((ROOT / file).read_text(encoding="utf-8") if (ROOT / file).is_file() else "")
    }
    assert {(path, file) for path, file in named if not (ROOT / path).exists()} == set()
