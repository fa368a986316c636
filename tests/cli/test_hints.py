"""What `show` advises for an execution that does not go on."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    open_store,
    workflow,
)
from durable_workflow_sqlite.cli import timeline
from durable_workflow_sqlite.stores import open_reader
from tests.databases import new_database
from tests.processes import an_engine, until

has_begun = threading.Event()
"""Set when the call that hangs has begun: what is cancelled before that never begins."""

hangs = threading.Event()
"""Set when the call that hangs is to end."""


@pytest.fixture(autouse=True)
def _end_what_hangs() -> Iterator[None]:
    has_begun.clear()
    hangs.clear()
    yield
    hangs.set()


@pytest.fixture
def file(tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    return placed(new_database(tmp_path / "orders.db"))


def call() -> None:
    has_begun.set()
    assert hangs.wait(60)


@workflow
async def part(ctx: WorkflowContext) -> None:
    await ctx.step("call", call)


@workflow
async def whole(ctx: WorkflowContext) -> None:
    await ctx.child("part", part)


@workflow
async def asks(ctx: WorkflowContext) -> int:
    return await ctx.wait_signal("go", type=int)


def hint(file: Path, execution_id: str) -> str | None:
    with open_reader(file) as reader:
        details = reader.execution(execution_id)
    assert details is not None
    return timeline.hint(details, file)


async def test_a_cancelled_tree_says_which_call_it_waits_for_and_how_to_end_that(
    file: Path,
) -> None:
    async with an_engine(file, workflows=[whole, part]) as (_, engine):
        handle = await engine.start(whole, execution_id="w")
        assert await asyncio.to_thread(has_begun.wait, 60)
        await handle.cancel()

        async def is_undone() -> bool:
            return (await engine.load("w/part-0")).status == "COMPENSATING"

        await until(is_undone)
        assert hint(file, "w/part-0") == (
            "it goes on when step call ends, which still runs; if that call hangs, end its worker,"
            f" on {socket.gethostname()}: kill -9 {os.getpid()}. The step is then in doubt, and"
            " other workers take over what that worker has"
        )
        assert hint(file, "w") == (
            "it is undone when its children are over; to look at one that is not: durable-workflow"
            f" show {file} w/part-0"
        )
        hangs.set()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
    assert hint(file, "w/part-0") is None


async def test_who_has_sent_the_signal_is_not_told_to_send_it(file: Path) -> None:
    async with an_engine(file, workflows=[asks]) as (store, engine):
        await engine.start(asks, execution_id="a")
        await until(partial(store.load_open_waits, "a", "go"))
    assert hint(file, "a") == (f"to continue it: durable-workflow signal {file} a go [JSON]")
    async with open_store(file) as store, DurableEngine(store) as client:
        await client.send_signal("a", "go", 7)
        assert hint(file, "a") == (
            "its signal go has come: a worker takes it, and nobody need send it again"
        )


async def test_undoing_waits_for_code_without_a_mistake_before_the_records(file: Path) -> None:
    undone: list[str] = []
    has_typo = False

    @workflow(name="order")
    async def order(ctx: WorkflowContext) -> None:
        if has_typo:
            raise NameError("degrees")
        await ctx.step("charge", lambda: "c", compensate=undone.append)
        await ctx.wait_signal("go")

    async with an_engine(file, workflows=[order]) as (store, engine):
        await engine.start(order, execution_id="o")
        await until(partial(store.load_open_waits, "o", "go"))
    has_typo = True
    async with an_engine(file, workflows=[order]) as (store, engine):
        await engine.send_signal("o", "go")
        with pytest.raises(WorkflowCodeError, match="before it came to all that is recorded"):
            await engine.handle("o").result()

        async def is_left() -> bool:
            says = hint(file, "o") or ""
            return "to cancel it" in says and "undoing needs code that fits its history" in says

        await until(is_left)
        await engine.cancel("o")

        async def is_asked() -> bool:
            return (hint(file, "o") or "").startswith("to undo it: undoing needs code that fits")

        await until(is_asked)
        assert undone == []
    has_typo = False
    async with an_engine(file, workflows=[order]) as (store, engine):
        with pytest.raises(WorkflowCancelledError):
            await engine.handle("o").result()
    assert undone == ["c"]


def test_the_step_that_blocks_an_execution_is_named(file: Path) -> None:
    async def begin() -> None:
        async with open_store(file) as store:
            async with DurableEngine(store, workflows=[part]) as engine:
                await engine.start(part, execution_id="p")
                assert await asyncio.to_thread(has_begun.wait, 60)
                hangs.set()
                await engine.handle("p").result()

    asyncio.run(begin())
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(
            "update workflow_executions set status = 'RUNNING', output_data = null,"
            " blocked_reason = 'its worker died 11 times in a row';"
            "update step_checkpoints set status = 'INTENT', event = null, completed_at = null,"
            " output_data = null"
        )
    assert hint(file, "p") == (
        f"to let it go on: find out why and correct that, then durable-workflow unblock {file} p;"
        f" if call took effect: durable-workflow resolve {file} p call JSON, with what it returned"
    )
