"""Operations that cannot work, told when a process starts instead of when the first job fails: system checks."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string
from rest_framework.serializers import Serializer

from jobs.operations import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

NAME = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+")
# What settles a doubt about an effect.
_KNOWS = {"key_window", "reconcile"}


@register
def check_operations(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Each of settings.OPERATIONS is one that a job can run."""
    return [message for path in settings.OPERATIONS for message in _wrong(path)]


def _wrong(path: str) -> Iterator[CheckMessage]:
    try:
        found = import_string(path)
    except ImportError as error:
        yield Error(f"{path} in OPERATIONS cannot be imported: {error}", id="semel.E020")
        return
    if not (isinstance(found, type) and issubclass(found, Operation)):
        yield Error(f"{path} in OPERATIONS is not a jobs.operations.Operation.", id="semel.E021")
        return
    if inspect.isabstract(found):
        yield Error(f"{path} has no perform().", id="semel.E022")
    name = getattr(found, "name", None)
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        hint = 'Give it a name for clients, such as name = "reports.generate".'
        yield Error(f"{path} has no name of the form <noun>.<verb>: {name!r}.", hint=hint, id="semel.E023")
    if not _is_form(getattr(found, "params", None)):
        hint = "They are checked before a request is accepted: derive one from rest_framework.serializers.Serializer."
        yield Error(f"The params of {path} are not a serializer.", hint=hint, id="semel.E024")
    for attribute in ("version", "max_attempts", "timeout_seconds"):
        value = getattr(found, attribute)
        if type(value) is not int or value < 1:
            yield Error(
                f"{attribute} of {path} must be a whole number from 1 on, not {value!r}.", id="semel.E025"
            )
    for effect in sorted(_effects_without_a_way(found) - set(found.blind_effects)):
        hint = (
            "Say for how long the downstream remembers keys (key_window) or how it is asked (reconcile); if it can do neither, "
            f'name the effect on purpose: blind_effects = ("{effect}",). A crash in its middle then ends in `unknown`.'
        )
        yield Error(
            f"Nobody could tell what became of effect {effect!r} of {path}.", hint=hint, id="semel.E026"
        )


def _is_form(params: object) -> bool:
    return isinstance(params, type) and issubclass(params, Serializer)


def _effects_without_a_way(operation: type[Operation]) -> set[str]:
    """Effects that the operation, or a function beside it, begins by a literal name, offering nothing in case of doubt.

    Found by reading the code: what is called through a variable, or with `**options`, is taken to know what it does.
    """
    module = inspect.getmodule(operation)
    if module is None:
        return set()
    tree = _tree_of(module)
    own = {one.__name__ for one in operation.__mro__}
    others = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name not in own]
    calls = _effect_calls(tree).difference(*map(_effect_calls, others))
    return {name for call in calls if (name := _name_of(call)) is not None and not _offers_a_way(call)}


@cache
def _tree_of(module: ModuleType) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        return ast.Module([], [])  # no source at hand


def _effect_calls(tree: ast.AST) -> set[ast.Call]:
    calls = {node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "effect"}


def _name_of(call: ast.Call) -> str | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    first = next(iter([*call.args, *named]), None)
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _offers_a_way(call: ast.Call) -> bool:
    given = {keyword.arg for keyword in call.keywords}
    return None in given or bool(given & _KNOWS)
