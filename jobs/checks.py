"""System checks of settings.OPERATIONS: report an operation that cannot work at start, not when its first job fails."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string
from rest_framework.serializers import Serializer

from jobs.operations import Operation

NAME = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+")
# Options of an effect that settle an unknown outcome.
_SETTLING_OPTIONS = frozenset({"key_window", "reconcile"})
# The option that bounds the call.
_BOUNDING_OPTIONS = frozenset({"timeout"})


@register
def check_operations(**_options: Any) -> list[CheckMessage]:  # noqa: ANN401 - Django's signature
    """Check that a job can run each of settings.OPERATIONS."""
    return [message for path in settings.OPERATIONS for message in _errors_of(path)]


def _errors_of(path: str) -> Iterator[CheckMessage]:
    try:
        operation = import_string(path)
    except ImportError as error:
        yield Error(f"{path} in OPERATIONS cannot be imported: {error}", id="semel.E020")
        return
    if not (isinstance(operation, type) and issubclass(operation, Operation)):
        yield Error(f"{path} in OPERATIONS is not a jobs.operations.Operation.", id="semel.E021")
        return
    if inspect.isabstract(operation):
        yield Error(f"{path} does not implement perform().", id="semel.E022")
    name = getattr(operation, "name", None)
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        hint = 'Give it a name for clients, such as name = "reports.generate".'
        yield Error(f"{path} has no name of the form <noun>.<verb>: {name!r}.", hint=hint, id="semel.E023")
    params = getattr(operation, "params", None)
    if not (isinstance(params, type) and issubclass(params, Serializer)):
        hint = "Derive them from rest_framework.serializers.Serializer, which validates each request."
        yield Error(f"The params of {path} are not a serializer.", hint=hint, id="semel.E024")
    for attribute in ("version", "max_attempts", "timeout_seconds"):
        value = getattr(operation, attribute)
        if type(value) is not int or value < 1:
            yield Error(f"{attribute} of {path} must be an integer of at least 1, not {value!r}.", id="semel.E025")
    if type(operation.io_bound) is not bool:
        yield Error(f"io_bound of {path} must be True or False, not {operation.io_bound!r}.", id="semel.E027")
    yield from _errors_of_effects(path, operation)


def _errors_of_effects(path: str, operation: type[Operation]) -> Iterator[CheckMessage]:
    for effect in sorted(_effects_without(operation, _BOUNDING_OPTIONS)) if operation.io_bound is True else ():
        hint = "Give the effect the timeout within which its call certainly ends: nothing can kill a thread that hangs."
        yield Error(f"Effect {effect!r} of the io_bound {path} has no timeout.", hint=hint, id="semel.E028")
    for effect in sorted(_effects_without(operation, _SETTLING_OPTIONS) - set(operation.blind_effects)):
        hint = (
            "Give the effect a key_window or a reconcile function. If neither exists, declare it: "
            f'blind_effects = ("{effect}",). A crash during it then ends in `unknown`.'
        )
        yield Error(f"The outcome of effect {effect!r} of {path} could not be learned.", hint=hint, id="semel.E026")


def _effects_without(operation: type[Operation], options: frozenset[str]) -> set[str]:
    """Return the effects with a literal name whose calls have none of these options.

    Reads the source of the operation and of the functions in its module. Skips calls with a variable name or `**options`.
    """
    module = inspect.getmodule(operation)
    if module is None:
        return set()
    tree = _parse(module)
    own = {base.__name__ for base in operation.__mro__}
    other_classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name not in own]
    calls = _effect_calls(tree).difference(*map(_effect_calls, other_classes))
    return {name for call in calls if (name := _name_of(call)) is not None and not _has_any(options, call)}


@cache
def _parse(module: ModuleType) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        return ast.Module([], [])  # no source available


def _effect_calls(tree: ast.AST) -> set[ast.Call]:
    calls = {node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "effect"}


def _name_of(call: ast.Call) -> str | None:
    named = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    first = next(iter([*call.args, *named]), None)
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _has_any(options: frozenset[str], call: ast.Call) -> bool:
    given = {keyword.arg for keyword in call.keywords}
    return None in given or bool(given & options)
