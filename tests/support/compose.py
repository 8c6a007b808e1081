"""Read docker-compose.yml as Docker does: resolve merges and variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
# Variables without a default.
SECRETS = {"POSTGRES_PASSWORD": "a-password"}
_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\})")


def compose(variables: Mapping[str, str] = SECRETS) -> dict[str, Any]:
    """Return the file with these variables. Raise KeyError for a variable that is not given and has no default."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return _filled(yaml.safe_load(text), variables)


def _filled(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {name: _filled(value, variables) for name, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, variables) for value in node]
    if isinstance(node, str):
        return _VARIABLE.sub(lambda found: _value(found, variables), node)
    return node


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["escaped"]:
        return "$"
    if found["kind"] == "-":
        return variables.get(found["name"]) or found["word"]
    return variables[found["name"]]
