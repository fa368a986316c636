"""What doctor and the dashboard say of queues and limits in which something waits for too long."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    Client,
    Limit,
    LimitNotFoundError,
    Queue,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.reading.findings import Finding, Level
from durable_workflow_sqlite.stores import open_reader
from tests.processes import an_engine, until

began: list[str] = []
"""Has something once a step hangs."""


@workflow
async def order(ctx: WorkflowContext, how: str) -> str:
    if how == "hang":
        await ctx.step("pack", hang)
    return await ctx.step("ship", str.upper, how)


@workflow
async def asks(ctx: WorkflowContext) -> str:
    return await ctx.step("ask", str.upper, "a", limit="openai")


async def hang() -> None:
    began.append("hangs")
    await asyncio.Event().wait()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "workflows.db"


@pytest.fixture
def shell(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def findings(file: Path, check: str, later: timedelta = timedelta(0)) -> list[Finding]:
    with open_reader(file) as reader:
        found = list(reader.check_up(datetime.now(UTC) + later, quick=True))
    return [one for one in found if one.check == check and one.level is not Level.NOTE]


def alarm(file: Path, name: str, later: timedelta = timedelta(0)) -> int:
    with open_reader(file) as reader:
        found = reader.alarms(datetime.now(UTC) + later)
    return sum(one.count for one in found if one.name == name)


async def test_a_worker_says_which_queues_it_serves(file: Path) -> None:
    async with an_engine(file, workflows=[order], queues=["gpu", "mail"]) as (store, _):
        with open_reader(file) as reader:
            await until(lambda: [one for one in reader.workers().workers if one.serves])
            (worker,) = reader.workers().workers
            assert worker.queues == ("gpu", "mail")
            assert worker.serves_queue("gpu")
            assert not worker.serves_queue("other")
            assert not worker.serves_queue(None)
            # Another engine on the same store serves everything.
            await store.join([("order", 1)], 1)
            (worker,) = reader.workers().workers
            assert worker.queues is None
            assert worker.serves_queue(None)


async def test_a_queue_that_no_living_worker_serves_is_named(file: Path) -> None:
    async with an_engine(file, workflows=[order], queues=["mail"]) as (_, engine):
        await engine.declare(Queue("gpu"), Queue("mail"))
        await engine.enqueue(order, "a", queue="gpu")
        await engine.enqueue(order, "b")
        soon = timedelta(minutes=2)
        assert findings(file, "unserved") == []  # not yet
        found = findings(file, "unserved", soon)
        assert len(found) == 2
        messages = " ".join(one.message for one in found)
        assert "no living worker that runs it serves queue 'gpu': 1 execution due" in messages
        assert "no living worker that runs it serves what is in no queue" in messages
        assert "1 worker lives, serving mail" in messages
        hints = " ".join(str(one.hint) for one in found)
        assert "with --queue gpu or without --queue" in hints
        assert alarm(file, "queues", soon) == 2
        await engine.pause_queue("gpu")
        (in_none,) = findings(file, "unserved", soon)
        assert "in no queue" in in_none.message
    # Where nobody lives, that is said, and not more.
    assert findings(file, "unserved", soon) == []


async def test_a_queue_that_is_full_for_long_names_who_holds_its_slot(
    file: Path, shell: sqlite3.Connection
) -> None:
    began.clear()
    async with an_engine(file, workflows=[order]) as (_, engine):
        await engine.declare(Queue("gpu", concurrency=1))
        await engine.enqueue(order, "hang", queue="gpu", execution_id="holder")
        await until(lambda: began)
        await engine.enqueue(order, "a", queue="gpu")
        late = timedelta(minutes=30)
        assert findings(file, "slot", late) == []  # work may take that long
        assert alarm(file, "queue", late) == 0  # it waits for a slot, and not for a worker
        (found,) = findings(file, "slot", timedelta(hours=2))
        assert found.level is Level.WARNING
        assert "queue 'gpu' is full (1 of 1): 1 execution due" in found.message
        assert "holder has held a slot since" in found.message
        assert "durable-workflow cancel FILE holder" in str(found.hint)
        assert "--concurrency 2" in str(found.hint)
        assert alarm(file, "queues", timedelta(hours=2)) == 1
        held = "select name, workflow_execution_id, step_name from workflow_held_slots"
        assert shell.execute(held).fetchall() == [("gpu", "holder", None)]
        await engine.change_limits(Queue("gpu", concurrency=2))
        assert findings(file, "slot", timedelta(hours=2)) == []


async def test_a_paused_queue_is_named_once_something_has_waited_in_it_for_long(
    file: Path,
) -> None:
    async with an_engine(file, workflows=[order]) as (_, engine):
        await engine.declare(Queue("gpu"))
        await engine.pause_queue("gpu", reason="the bank", by="kim")
        assert findings(file, "paused", timedelta(hours=25)) == []  # nothing waits
        await engine.enqueue(order, "a", queue="gpu")
        assert findings(file, "paused", timedelta(hours=23)) == []
        (found,) = findings(file, "paused", timedelta(hours=25))
        assert found.level is Level.WARNING
        assert "queue 'gpu' is paused since" in found.message
        assert "by kim: the bank; 1 execution due in it" in found.message
        assert found.hint == "`durable-workflow resume FILE --queue gpu` lets it go on"
        await engine.resume_queue("gpu", by="lee")
        assert findings(file, "paused", timedelta(hours=25)) == []


async def test_a_limit_that_steps_name_and_nobody_declares_is_named(file: Path) -> None:
    async with an_engine(file, workflows=[asks]) as (_, engine):
        with pytest.raises(LimitNotFoundError):
            await engine.run(asks, execution_id="one")
        await until(lambda: findings(file, "trouble"))
        (found,) = findings(file, "limit")
        assert "no limit 'openai' for steps is declared, and 1 execution" in found.message
        assert found.message.endswith(": one")
        assert "queue set FILE --limit openai --add" in str(found.hint)
        await engine.declare(Limit("openai", concurrency=5))
        assert findings(file, "limit") == []
    async with an_engine(file, workflows=[asks]) as (_, engine):
        assert await engine.result_of("one") == "A"


async def test_a_step_that_holds_a_slot_is_seen_with_its_worker(
    file: Path, shell: sqlite3.Connection
) -> None:
    began.clear()

    @workflow
    async def limited(ctx: WorkflowContext) -> None:
        await ctx.step("pack", hang, limit="api", limit_key="kim")

    async with an_engine(file, workflows=[limited]) as (store, engine):
        await Client(store).declare(Limit("api", concurrency=3))
        await engine.start(limited, execution_id="one")
        await until(lambda: began)
        with open_reader(file) as reader:
            (limit,) = reader.queues(datetime.now(UTC)).limits
            (slot,) = reader.held_slots("STEP", "api")
        assert (limit.running, limit.running_keys, limit.held_longest) == (1, 1, "one")
        assert limit.held_step == "pack"
        assert (slot.execution_id, slot.step_name, slot.key) == ("one", "pack", "kim")
        assert slot.since is not None
        assert ":" in slot.worker
        shell.execute("delete from workflow_limits")
        found = shell.execute("select name, is_declared, running from workflow_step_limits")
        assert found.fetchall() == [("api", 0, 1)]
