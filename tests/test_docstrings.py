"""Whatever is public says what it is for, where `help()` shows it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import durable_workflow_sqlite
from durable_workflow_sqlite import testing
from durable_workflow_sqlite.testing.store_contract import CheckpointStoreContract


def _public() -> Iterator[tuple[str, object]]:
    yield "CheckpointStoreContract", CheckpointStoreContract
    for module in (durable_workflow_sqlite, testing):
        for name in module.__all__:
            if name != "CheckpointStoreContract":  # found by its own module, without more ado
                yield name, getattr(module, name)


def _methods(kind: type) -> Iterator[tuple[str, object]]:
    """The public methods and properties that are of this library, inherited ones included."""
    for name in dir(kind):
        owner = next((one for one in kind.__mro__ if name in vars(one)), object)
        if name.startswith(("_", "test_")) or not owner.__module__.startswith(
            durable_workflow_sqlite.__name__
        ):
            continue
        found = vars(owner)[name]
        if inspect.isfunction(found) or isinstance(found, property | classmethod | staticmethod):
            yield name, getattr(kind, name)


def test_every_public_name_and_method_has_a_docstring() -> None:
    looked_at = 0
    silent: list[str] = []
    for name, value in _public():
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        methods = list(_methods(value)) if inspect.isclass(value) else []
        for what, one in [(name, value), *((f"{name}.{method}", one) for method, one in methods)]:
            looked_at += 1
            if not (inspect.getdoc(one) or "").strip():
                silent.append(what)
    assert silent == []
    assert looked_at > 150
