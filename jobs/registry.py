"""The operations that this process knows: settings.OPERATIONS, loaded once."""

from collections.abc import Mapping
from functools import cache

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from jobs.errors import UnknownOperation
from jobs.operations import Operation


@cache
def operations() -> Mapping[tuple[str, int], Operation]:
    """Return each operation by name and version. An operation has no state, so one instance serves all jobs."""
    loaded: dict[tuple[str, int], Operation] = {}
    for path in settings.OPERATIONS:
        operation = import_string(path)()
        if not isinstance(operation, Operation):
            raise ImproperlyConfigured(f"{path} in OPERATIONS is not a jobs.operations.Operation.")
        if (operation.name, operation.version) in loaded:
            raise ImproperlyConfigured(f"OPERATIONS has {operation.name} version {operation.version} twice.")
        loaded[operation.name, operation.version] = operation
    return loaded


@cache
def known_operations() -> frozenset[str]:
    """Return `name@version` of each operation that a worker may claim."""
    return frozenset(f"{name}@{version}" for name, version in operations())


def forget_operations() -> None:
    """Load settings.OPERATIONS again at the next use, for tests that change it."""
    operations.cache_clear()
    known_operations.cache_clear()


def current_operation(name: str) -> Operation:
    """Return the newest version of the operation, for a new job. Raises UnknownOperation."""
    versions = [version for known, version in operations() if known == name]
    if not versions:
        raise UnknownOperation(name, sorted({known for known, _ in operations()}))
    return operations()[name, max(versions)]


def operation_of(name: str, version: int) -> Operation:
    """Return the operation of a claimed job. A claim selects known operations only."""
    return operations()[name, version]
