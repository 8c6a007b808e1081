"""Generate docs/reference/settings.md from config/settings/: `python -m tests.support.settings_document`."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "config" / "settings"
# In the order in which config/settings/__init__.py imports them.
SOURCES = [
    FOLDER / f"{name}.py"
    for name in re.findall(
        r"^from config\.settings\.(\w+) import", (FOLDER / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
]
DOCUMENT = ROOT / "docs" / "reference" / "settings.md"
# The kind of a value: by the last part of its name, otherwise by the method that reads it.
UNITS = {
    "SECONDS": "seconds",
    "MS": "milliseconds",
    "BYTES": "bytes",
    "ROWS": "rows",
    "URL": "address",
    "THREADS": "threads",
}
KINDS = {
    "bool": "true or false",
    "int": "number",
    "float": "number",
    "str": "text",
    "list": "words, separated by commas",
    "json": "JSON",
    "db": "address",
    "choice": "one word",
}
HEAD = """# Settings

A deployment sets these variables in its environment, or in `.env`. This page is generated from `config/settings/`: edit those
files, then run `python -m tests.support.settings_document`. A value of the wrong type stops the process with an error that names
the variable. `manage.py check --deploy` proves that the settings fit together.
"""
TAIL = """
## Outside of `config/settings/`

| variable | is | default | what for |
|---|---|---|---|
| `SEMEL_ENV_FILE` | path | `.env` beside `manage.py` | The file that is read into the environment. Empty: none. |
| `SEMEL_PROCESS` | one word | by the command | `api`, `streams`, `worker` or `manage`: sets the time-outs of statements. |
| `ALIVE_DIR` | path | a folder in `/tmp` | Folder of the liveness files, for `python -m observability.liveness`. |
| `API_WORKERS` | number | `2` | Processes of one api, each with `API_THREADS` threads. (docker-compose.yml) |
| `WORKER_PROCESSES` | number | `4` | Jobs that one worker runs at once. (docker-compose.yml) |
| `POSTGRES_PASSWORD` | text | none: it must be set | Letters and digits only, because it is part of a URL. (docker-compose.yml) |
| `REDIS_MAXMEMORY` | size | `512mb` | Redis refuses writes above it; jobs then wait in PostgreSQL alone. (docker-compose.yml) |
| `PORT` | number | `8000` | Port of the proxy. (docker-compose.yml) |
"""
_SECTION = re.compile(r"# --- (.+?) -+$")


@dataclass(frozen=True)
class Setting:
    """One variable of the environment."""

    section: str
    name: str
    kind: str
    default: str
    reason: str


def document() -> str:
    """Return the whole page."""
    parts, section = [HEAD], ""
    for one in all_settings():
        if one.section != section:
            section = one.section
            parts.append(f"\n## {section}\n\n| variable | is | default | purpose and reason |\n|---|---|---|---|\n")
        parts.append(f"| `{one.name}` | {one.kind} | {one.default} | {one.reason} |\n")
    return "".join([*parts, TAIL])


def all_settings() -> Iterator[Setting]:
    """Yield each variable of all files."""
    for source in SOURCES:
        yield from settings(source.read_text(encoding="utf-8"))


def settings(source: str) -> Iterator[Setting]:
    """Yield each variable where it is first read."""
    lines, seen = source.splitlines(), set()
    for statement in ast.parse(source).body:
        for call in sorted(_readings(statement), key=lambda call: (call.lineno, call.col_offset)):
            name = ast.literal_eval(call.args[0])
            if name not in seen:
                seen.add(name)
                above = lines[: statement.lineno - 1]
                section = next(found[1] for line in reversed(above) if (found := _SECTION.match(line)))
                yield Setting(section, name, _kind(name, call), _default(call), _reason(above))


def _readings(statement: ast.stmt) -> Iterator[ast.Call]:
    for node in ast.walk(statement):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="env"))):
                yield node


def _kind(name: str, call: ast.Call) -> str:
    assert isinstance(call.func, ast.Attribute)
    return UNITS.get(name.rpartition("_")[2], KINDS[call.func.attr])


def _default(call: ast.Call) -> str:
    """Return the default value, or its expression if it depends on another setting."""
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "default"), None)
    if given is None:
        return "none: it must be set"
    source = ast.unparse(given)
    if any(isinstance(node, ast.Name) for node in ast.walk(given)):
        return f"`{source}`"
    value = eval(source)  # noqa: S307 - a line of our own, without names
    match value:
        case "" | [] | {}:
            return "empty"
        case list():
            return " ".join(f"`{word}`" for word in value)
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def _reason(above: list[str]) -> str:
    """Return the comment above the statement, or above the block of statements that contains it."""
    end = len(above)
    while above[end - 1] and not above[end - 1].startswith("#"):
        end -= 1
    begin = end
    while above[begin - 1].startswith("#") and not _SECTION.match(above[begin - 1]):
        begin -= 1
    text = " ".join(line.lstrip("# ") for line in above[begin:end])
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
