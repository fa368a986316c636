"""Whatever is public says what it is for, where `help()` shows it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

import durable_workflow_sqlite
from durable_workflow_sqlite import testing


def _public_names() -> Iterator[tuple[str, object]]:
    for module in (durable_workflow_sqlite, testing):
        for name in module.__all__:
            value = getattr(module, name)
            if not (inspect.isclass(value) or inspect.isroutine(value)):
                continue
            yield f"{module.__name__}.{name}", value
            if not inspect.isclass(value):
                continue
            for method in dir(value):
                found = inspect.getattr_static(value, method)
                owner = next((kind for kind in value.__mro__ if method in vars(kind)), object)
                is_ours = owner.__module__.startswith(durable_workflow_sqlite.__name__)
                is_told = isinstance(found, property | classmethod | staticmethod)
                if method.startswith(("_", "test_")) or not is_ours:
                    continue
                if is_told or inspect.isfunction(found):
                    yield f"{module.__name__}.{name}.{method}", getattr(value, method)


@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in _public_names()])
def test_it_has_a_docstring(value: object) -> None:
    assert (inspect.getdoc(value) or "").strip()
