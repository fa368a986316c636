"""A workflow that is defined again, as in a notebook: the new definition replaces the old one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, WorkflowContext, workflow

CELL = """
from durable_workflow_sqlite import WorkflowContext, workflow

@workflow{options}
async def order(ctx: WorkflowContext, name: str{parameters}) -> str:
    await ctx.wait_signal("go")
    return await ctx.step("say", lambda: f"{text}")
"""


def cell(text: str, parameters: str = "", options: str = "") -> str:
    return CELL.format(text=text, parameters=parameters, options=options)


class Notebook:
    """Its cells run in one module."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "a_notebook"}

    def run(self, text: str) -> Any:
        exec(compile(text, "<cell>", "exec"), self.names)
        return self.names["order"]


async def test_new_executions_have_the_new_code_and_nothing_else_is_needed(file: Path) -> None:
    notebook = Notebook()
    old = notebook.run(cell("old {name}"))
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        begun = await engine.start(old, "a")
        new = notebook.run(cell("new {name} {count}", ", count: int = 1"))
        after = await engine.start(new, "b", 2)
        in_queue = await engine.enqueue(new, "c", 3)
        stale = await engine.start(old, "e")  # whoever holds the old one gets the new one, too
        for one in (begun, after, in_queue, stale):
            await one.signal("go")
        assert await begun.result() == "old a"  # what runs goes on as it began
        assert await after.result() == "new b 2"
        assert await in_queue.result() == "new c 3"
        assert await stale.result() == "new e 1"


async def test_what_is_registered_at_the_beginning_is_replaced_too(file: Path) -> None:
    notebook = Notebook()
    old = notebook.run(cell("old {name}"))
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, [old]) as engine:
        handle = await engine.enqueue(old, "a")
        await handle.signal("go")
        assert await handle.result() == "old a"
        new = notebook.run(cell("new {name}"))
        handle = await engine.enqueue(new, "b")
        await handle.signal("go")
        assert await handle.result() == "new b"


async def test_what_is_resumed_has_the_new_code(file: Path) -> None:
    notebook = Notebook()
    old = notebook.run(cell("old {name}"))
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, [old]) as engine:
            await engine.start(old, "a", execution_id="one")
        new = notebook.run(cell("new {name}"))
        async with DurableEngine(store, [old]) as engine:  # the list is as it was
            await engine.send_signal("one", "go")
            assert await engine.result_of("one") == "new a"
    assert new.newest is new
    assert old.newest is new


async def test_a_module_that_is_loaded_again_replaces_its_workflows(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "shop_to_reload.py"
    path.write_text(cell("old {name}"))
    module: ModuleType = importlib.import_module("shop_to_reload")
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(module.order, "a")
        await handle.signal("go")
        assert await handle.result() == "old a"
        path.write_text(cell("reloaded {name}"))
        importlib.reload(module)
        handle = await engine.start(module.order, "b")
        await handle.signal("go")
        assert await handle.result() == "reloaded b"


async def test_versions_stay_apart(file: Path) -> None:
    notebook = Notebook()
    one = notebook.run(cell("one {name}"))
    two = notebook.run(cell("two {name}", options="(version=2)"))
    assert one.newest is one
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store, [one]) as engine:
        handles = [await engine.start(each, "a") for each in (one, two)]
        for handle in handles:
            await handle.signal("go")
        assert [await handle.result() for handle in handles] == ["one a", "two a"]


def made(text: str) -> Callable[..., Any]:
    @workflow(name="made")
    async def body(ctx: WorkflowContext) -> str:
        return text

    return body


async def test_two_that_a_function_makes_are_two(file: Path) -> None:
    """They only look the same: each holds other values."""
    one, two = made("one"), made("two")
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        assert await engine.run(one) == "one"
        with pytest.raises(ValueError, match="two workflows have the name 'made'"):
            await engine.run(two)


async def test_two_of_different_modules_are_two(file: Path) -> None:
    other = Notebook()
    other.names["__name__"] = "another_notebook"
    one, two = Notebook().run(cell("one")), other.run(cell("two"))
    async with SqliteCheckpointStore.file(file) as store:
        with pytest.raises(ValueError, match="two workflows have the name 'order'"):
            DurableEngine(store, [one, two])
