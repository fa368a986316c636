"""Questions, and what else happens to an execution that asks one."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    QuestionNotFoundError,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowExpiredError,
    WorkflowFailedError,
    blocking,
    open_store,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.databases import new_database
from tests.processes import an_engine, until

runs: list[str] = []


def note(what: str) -> str:
    runs.append(what)
    return what


@workflow
async def asks(ctx: WorkflowContext, fails: bool) -> str:
    await ctx.step("before", note, "before")
    said = await ctx.ask("go", "Go on?", type=str)
    await ctx.step("after", note, said)
    if fails and said != "fixed":
        raise ValueError(said)
    return said


async def asked_in(engine: Client, execution_id: str) -> str:
    """The signal of the question that an execution asks, once it does."""

    async def look() -> bool:
        return bool(await engine.questions(execution_id=execution_id))

    await until(look)
    return (await engine.questions(execution_id=execution_id))[0].signal_name


async def test_a_paused_execution_can_be_answered_and_goes_on_when_it_is_resumed() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(30),
    ):
        handle = await engine.start(asks, False, execution_id="one")
        await asked_in(engine, "one")
        await engine.pause("one")
        await engine.answer("one", "go", "yes")
        await asyncio.sleep(0.05)
        assert [one.is_answered for one in await engine.questions()] == [True]
        await engine.resume("one")
        assert await handle.result() == "yes"


async def test_a_time_to_live_that_is_over_closes_the_question() -> None:
    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(30),
    ):
        handle = await engine.start(asks, False, execution_id="one", ttl=timedelta(hours=1))
        await asked_in(engine, "one")
        await clock.advance(timedelta(hours=1))
        with pytest.raises(WorkflowExpiredError):
            await handle.result()
        assert await engine.questions() == []


async def test_a_retry_from_a_step_before_it_asks_again() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(30),
    ):
        handle = await engine.start(asks, True, execution_id="one")
        signal = await asked_in(engine, "one")
        await engine.answer("one", "go", "wrong")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await engine.retry("one", from_step="before")
        assert await asked_in(engine, "one") == signal
        await engine.answer("one", "go", "fixed")
        assert await engine.handle("one").result() == "fixed"
        acts = [one.act for one in await store.load_audit_log("one")]
        assert acts == ["answer", "retry", "answer"]


async def test_a_retry_and_a_fork_after_it_keep_the_answer() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(30),
    ):
        handle = await engine.start(asks, True, execution_id="one")
        await asked_in(engine, "one")
        await engine.answer("one", "go", "wrong")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        runs.clear()
        await engine.retry("one", from_step="after")
        with pytest.raises(WorkflowFailedError, match="wrong"):
            await engine.handle("one").result()
        assert runs == ["wrong"]
        fork = await engine.fork("one", before="after", new_id="two")
        with pytest.raises(WorkflowFailedError, match="wrong"):
            await fork.result()
        assert await engine.questions() == []


def is_claimed(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as shell:
        return bool(shell.execute("select 1 from workflow_claims").fetchall())


async def test_one_that_has_left_memory_is_woken_by_its_answer(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    async with an_engine(file, park_after=timedelta(milliseconds=1)) as (_, engine):
        handle = await engine.start(asks, False, execution_id="one")
        await asked_in(engine, "one")
        await until(lambda: not is_claimed(file))
        async with open_store(file) as other:
            await Client(other).answer("one", "go", "woken")
        assert await asyncio.wait_for(handle.result(), 20) == "woken"


def test_the_api_without_await_lists_and_answers(tmp_path: Path) -> None:
    file = new_database(tmp_path / "workflows.db")
    with (
        blocking.open_store(file) as store,
        blocking.DurableEngine(store, workflows=[asks]) as engine,
    ):
        handle = engine.start(asks, False, execution_id="one")
        client = blocking.Client(store)
        while not client.questions():
            pass
        with pytest.raises(QuestionNotFoundError):
            client.answer("one", "other", "yes")
        assert engine.answer("one", "go", "yes", by="kim").name == "go"
        assert handle.result(timedelta(seconds=20)) == "yes"


async def test_a_fork_and_a_retry_name_a_question_as_the_workflow_does() -> None:
    runs.clear()
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store, [asks]) as engine:
        handle = await engine.start(asks, True, execution_id="one")
        await asked_in(engine, "one")
        await engine.answer("one", "go", "no")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        edited = await engine.fork("one", edit={"go": "fixed"}, before="after", new_id="edited")
        assert await edited.result() == "fixed"
        again = await engine.fork("one", before="go", new_id="again")
        await asked_in(engine, "again")
        await engine.answer("again", "go", "fixed")
        assert await again.result() == "fixed"
        await engine.retry("one", from_step="go")
        await asked_in(engine, "one")
        await engine.answer("one", "go", "fixed")
        assert await engine.result_of("one") == "fixed"
    assert runs == ["before", "no", "fixed", "fixed", "fixed"]
