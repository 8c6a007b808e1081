"""A browser for tests: Debian's Chromium, headless, with a profile of its own, driven by Playwright."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

NO_CHROMIUM = "no Chromium here: install Debian's package `chromium`, or have one on the PATH"
# The browser connects to the page's server only.
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_SIZE = {"width": 1440, "height": 780}


def chromium() -> str | None:
    """Return the path of Chromium; None if it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def opened_browser(profile: Path) -> Iterator[Page]:
    """Yield an empty page of a fresh browser. A script error or a missing file fails the test."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium(),
            headless=True,
            args=_ARGUMENTS,
            viewport=_SIZE,
            color_scheme="light",
            reduced_motion="reduce",
        )
        try:
            page = context.pages[0]
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("response", lambda got: problems.append(f"{got.status} {got.url}") if got.status >= 400 else None)
            yield page
            assert problems == []
        finally:
            context.close()
