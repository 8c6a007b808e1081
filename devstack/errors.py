"""What the launcher tells its user when it cannot go on."""

from __future__ import annotations


class LauncherError(Exception):
    """One line that says what is wrong and what to do; it ends the command with exit code 1."""
