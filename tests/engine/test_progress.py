"""`report_progress` and `ctx.progress`: people see how much is done; no replay depends on it."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    AesGcmCodec,
    Client,
    DurableEngine,
    End,
    ExecutionNotFoundError,
    Item,
    Progress,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowFailedError,
    blocking,
    open_store,
    report_progress,
    step_stream,
    workflow,
)
from durable_workflow_sqlite.engine import progress
from durable_workflow_sqlite.testing import check_code
from tests.databases import new_database
from tests.processes import a_process, an_engine, die, run_until_killed, until

A_MOMENT = timedelta(milliseconds=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return new_database(tmp_path / "workflows.db")


def short(one: Progress) -> tuple[Any, ...]:
    return one.branch, one.step_name, one.attempt, one.done, one.total, one.note


async def reported(client: Client, execution_id: str = "e") -> list[tuple[Any, ...]]:
    return [short(one) for one in await client.progress(execution_id)]


def a_step(action: Callable[[], Any], **options: Any) -> Any:
    @workflow(name="work")
    async def work(ctx: WorkflowContext) -> None:
        await ctx.step("copy", action, **options)

    return work


def writes(file: Path) -> int:
    """How often the progress was written: each time takes a number of the table's counter."""
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("select count(*) from writes_of_progress").fetchone()
    return int(found[0])


def count_writes(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "create table writes_of_progress (at text);"
            " create trigger counts_insert after insert on workflow_progress_reports begin"
            " insert into writes_of_progress values ('insert'); end;"
            " create trigger counts_update after update on workflow_progress_reports begin"
            " insert into writes_of_progress values ('update'); end;"
        )


# What is reported


async def test_a_step_and_each_branch_of_the_function_have_their_own_progress() -> None:
    async def copy() -> None:
        report_progress(2, 8, "photos")

    @workflow
    async def work(ctx: WorkflowContext) -> None:
        ctx.progress(0, 2)
        await ctx.step("copy", copy)
        left = ctx.branch("left")
        left.progress(1.5, note="the left one")
        ctx.progress(1, 2)
        await left.step("copy", copy)
        ctx.progress(2, 2, "done")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(work, execution_id="e")
        assert await reported(engine) == [
            ("", "", 0, 2, 2, "done"),
            ("", "copy", 1, 2, 8, "photos"),
            ("left", "", 0, 1.5, None, "the left one"),
            ("left", "copy", 1, 2, 8, "photos"),
        ]
        assert [one.fraction for one in await engine.progress("e")] == [1, 0.25, None, 0.25]
        with pytest.raises(ExecutionNotFoundError):
            await engine.progress("unknown")


async def test_it_is_seen_while_the_action_runs_and_while_the_function_waits() -> None:
    goes_on = asyncio.Event()

    async def copy() -> None:
        report_progress(1, 2)
        await goes_on.wait()

    @workflow
    async def work(ctx: WorkflowContext) -> None:
        ctx.progress(1, 3)
        await ctx.step("copy", copy)
        ctx.progress(2, 3)
        await ctx.wait_signal("go")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(work, execution_id="e")
        seen = engine.follow("e")
        first = {short(one)[:4] async for one in _some(seen, 2) if isinstance(one, Progress)}
        assert first == {("", "", 0, 1), ("", "copy", 1, 1)}
        goes_on.set()
        second = await anext(seen)
        assert isinstance(second, Progress)
        assert short(second) == ("", "", 0, 2, 3, None)
        await handle.signal("go")
        assert [one async for one in seen] == [End(status=await handle.status())]


async def _some(seen: Any, number: int) -> Any:
    for _ in range(number):
        async with asyncio.timeout(60):
            yield await anext(seen)


async def test_a_thread_reports_too_and_many_calls_cost_few_writes(file: Path) -> None:
    def copy() -> None:
        end = time.monotonic() + 0.6
        done = 0
        while time.monotonic() < end:
            report_progress(done := done + 1)
        assert done > 1000
        report_progress(10**9, 10**9)

    count_writes(file)
    async with an_engine(file) as (_, engine):
        await engine.run(a_step(copy), execution_id="e")
        assert await reported(engine) == [("", "copy", 1, 1e9, 1e9, None)]
    assert writes(file) <= 5


async def test_a_function_that_reports_at_each_step_costs_few_writes(file: Path) -> None:
    @workflow
    async def work(ctx: WorkflowContext) -> None:
        for number in range(300):
            ctx.progress(number, 300)
            await ctx.step("copy", int)
        ctx.progress(300, 300)

    count_writes(file)
    async with an_engine(file) as (_, engine):
        began = time.monotonic()
        await engine.run(work, execution_id="e")
        took = time.monotonic() - began
        assert await reported(engine) == [("", "", 0, 300, 300, None)]
    # A report goes along with each write until one of them is committed: with two, for instance.
    assert writes(file) <= 4 + 2 * took / 0.25


async def test_the_newest_attempt_counts_and_one_that_timed_out_says_nothing_more() -> None:
    tries: list[int] = []
    over = threading.Event()
    told: list[bool] = []

    def copy() -> None:
        tries.append(1)
        mine = len(tries)
        report_progress(mine * 10)
        if mine == 1:
            over.wait(60)
            report_progress(99)  # nobody wants it any more
            told.append(True)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        retry = RetryPolicy.fixed(max_attempts=2, delay=A_MOMENT)
        step = a_step(copy, retry=retry, timeout=timedelta(seconds=0.2))
        await engine.run(step, execution_id="e")
        over.set()
        await until(lambda: told)
        assert await reported(engine) == [("", "copy", 2, 20, None, None)]


async def test_a_step_that_fails_keeps_what_it_had_reported_and_a_retry_forgets_it() -> None:
    is_broken = True

    async def copy() -> None:
        if is_broken:
            report_progress(37, 100, "x.jpg")
            raise ValueError("broken")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.run(
                a_step(copy, retry=RetryPolicy.fixed(max_attempts=1, delay=A_MOMENT)),
                execution_id="e",
            )
        assert await reported(engine) == [("", "copy", 1, 37, 100, "x.jpg")]
        is_broken = False
        await engine.retry("e")
        await engine.result_of("e")
        assert await reported(engine) == []


async def test_followers_of_a_step_get_its_progress_alone() -> None:
    async def copy() -> None:
        step_stream().put("begun")
        report_progress(1)

    @workflow
    async def work(ctx: WorkflowContext) -> None:
        ctx.progress(0)
        await ctx.step("copy", copy)
        await ctx.step("other", copy)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(work, execution_id="e")
        found = [one async for one in engine.follow("e", step="other")]
        assert [type(one) for one in found] == [Item, Progress, End]


async def test_it_is_deleted_with_the_execution_and_with_a_run() -> None:
    @workflow
    async def runs(ctx: WorkflowContext, run: int) -> Any:
        if run == 1:
            ctx.progress(1)
            await ctx.step("copy", int)
            return ctx.continue_as_new(2)
        return None

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(runs, 1, execution_id="e")
        assert await reported(engine) == []
        await engine.run(a_step(lambda: report_progress(1)), execution_id="f")
        assert len(await store.load_progress("f")) == 1
        assert await store.delete_execution("f")
        assert await store.load_progress("f") == []


async def test_text_is_encrypted(file: Path) -> None:
    codec = AesGcmCodec([("first", b"k" * 32)])
    async with open_store(file, codec=codec) as store, DurableEngine(store) as engine:
        await engine.run(a_step(lambda: report_progress(1, note="top secret")), execution_id="e")
        assert (await engine.progress("e"))[0].note == "top secret"
    assert b"top secret" not in file.read_bytes()
    async with open_store(file) as store:
        (one,) = await Client(store).progress("e")
        assert (one.done, one.note) == (1, "encrypted")
    async with open_store(file, codec=codec) as store:
        await store.recode(to_plain=True)
    async with open_store(file) as store:
        assert (await Client(store).progress("e"))[0].note == "top secret"


def test_the_blocking_client_gives_it(file: Path) -> None:
    with blocking.open_store(file) as store, blocking.DurableEngine(store) as engine:
        engine.run(a_step(lambda: report_progress(1, 2)), execution_id="e")
        assert [one.done for one in engine.progress("e")] == [1]
        assert [type(one) for one in engine.follow("e")] == [Progress, End]


# What is refused


async def test_bad_arguments_are_refused_at_the_call() -> None:
    bad: list[tuple[tuple[Any, ...], type[Exception]]] = [
        ((-1,), ValueError),
        ((math.nan,), ValueError),
        ((math.inf,), ValueError),
        ((1, 0), ValueError),
        ((1, -3), ValueError),
        (("1",), TypeError),
        ((True,), TypeError),
        ((1, None, 3), TypeError),
        ((1, None, "\ud800"), ValueError),
        ((1, None, "\0"), ValueError),
        ((1, None, "x" * 1001), ValueError),
    ]

    def copy() -> None:
        for arguments, error in bad:
            with pytest.raises(error):
                report_progress(*arguments)

    @workflow
    async def work(ctx: WorkflowContext) -> None:
        for arguments, error in bad:
            with pytest.raises(error):
                ctx.progress(*arguments)
        await ctx.step("copy", copy)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(work, execution_id="e")
        assert await reported(engine) == []


async def test_it_is_refused_where_there_is_no_step() -> None:
    with pytest.raises(RuntimeError, match="outside of an action"):
        report_progress(1)
    kept: list[WorkflowContext] = []

    async def undo(_: object) -> None:
        with pytest.raises(RuntimeError, match="in a compensation"):
            report_progress(1)
        kept.clear()

    @workflow
    async def work(ctx: WorkflowContext) -> None:
        kept.append(ctx)

        async def copy() -> None:
            with pytest.raises(RuntimeError, match="outside of its workflow function"):
                ctx.progress(1)

        await ctx.step("copy", copy, compensate=undo)
        raise ConnectionError

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.run(work, execution_id="e")
        assert kept == []
        assert await reported(engine) == []


async def test_after_the_action_has_returned_it_is_refused() -> None:
    calls: list[Callable[[], None]] = []

    async def copy() -> None:
        import contextvars

        variables = contextvars.copy_context()
        calls.append(lambda: variables.run(report_progress, 5))
        report_progress(1)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(a_step(copy), execution_id="e")
        assert await reported(engine) == [("", "copy", 1, 1, None, None)]


# Replays


@workflow(name="counted")
async def counted(ctx: WorkflowContext, dies_after: int) -> None:
    for number in range(4):
        ctx.progress(number, 4)
        await ctx.step("copy", _copy, number, dies_after)
    ctx.progress(4, 4)
    await ctx.wait_signal("go")
    ctx.progress(5, 5)


async def _copy(number: int, dies_after: int) -> None:
    report_progress(number)
    if number == dies_after:
        await asyncio.sleep(0.6)
        die()


def test_a_replay_writes_no_progress_that_was_written_before(file: Path) -> None:
    async def begin() -> None:
        async with an_engine(file, workflows=[counted]) as (_, engine):
            await engine.run(counted, 3, execution_id="e")

    run_until_killed(begin)

    async def go_on() -> None:
        async with an_engine(file, workflows=[counted]) as (store, engine):
            before = await store.load_progress("e")
            assert [one.done for one in before] == [3, 0, 1, 2, 3]
            count_writes(file)
            with closing(sqlite3.connect(file)) as connection, connection:
                # It is not to die again.
                connection.execute("update workflow_executions set input_data = '[9]'")
            await engine.recover()
            while (await engine.load("e")).status != "SUSPENDED":
                await asyncio.sleep(0.01)
            after = await store.load_progress("e")
            assert [one.done for one in after] == [4, 0, 1, 2, 3]
            assert after[1:4] == before[1:4]

    a_process(go_on)

    async def look() -> None:
        # It is replayed again, up to a wait: that writes what is there already, or nothing.
        async with an_engine(file, workflows=[counted]) as (store, engine):
            before, written = await store.load_progress("e"), writes(file)
            await engine.recover()
            handle = engine.handle("e")
            await asyncio.sleep(0.4)
            assert await store.load_progress("e") == before
            assert writes(file) == written
            await handle.signal("go")
            await handle.result()
            assert [one.done for one in await store.load_progress("e")] == [5, 0, 1, 2, 3]

    a_process(look)


async def test_code_that_begins_to_report_still_fits_what_is_recorded(file: Path) -> None:
    @workflow(name="work")
    async def before(ctx: WorkflowContext) -> None:
        await ctx.step("copy", int)
        await ctx.wait_signal("go")

    @workflow(name="work")
    async def after(ctx: WorkflowContext) -> None:
        ctx.progress(0, 2)
        await ctx.step("copy", int)
        ctx.progress(1, 2)
        await ctx.wait_signal("go")

    async with an_engine(file, workflows=[before]) as (_, engine):
        await engine.start(before, execution_id="e")
        while (await engine.load("e")).status != "SUSPENDED":
            await asyncio.sleep(0.01)
    count_writes(file)
    check = check_code(file, [after])
    assert (check.checked, check.is_ok) == (1, True)
    assert writes(file) == 0
    async with an_engine(file, workflows=[after]) as (_, engine):
        await engine.recover()
        await engine.send_signal("e", "go")
        await engine.result_of("e")
        assert await reported(engine) == [("", "", 0, 1, 2, None)]


@pytest.mark.campaign
@pytest.mark.parametrize("synchronous", ["normal", "full"])
async def test_a_report_beside_the_last_write_does_not_disturb_the_end(
    file: Path,
    synchronous: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)

    @workflow
    async def work(ctx: WorkflowContext, run: int) -> Any:
        for number in range(3):
            ctx.progress(number, 3)
            await ctx.step("copy", report_progress, number)
        ctx.progress(3, 3)
        return ctx.continue_as_new(run + 1) if run < 3 else run

    async with (
        SqliteCheckpointStore.file(file, synchronous=synchronous) as store,
        DurableEngine(store) as engine,
    ):
        for first in range(0, 200, 20):
            names = [f"e-{n}" for n in range(first, first + 20)]
            runs = (engine.run(work, 1, execution_id=name) for name in names)
            assert await asyncio.gather(*runs) == [3] * 20
            for name in names:
                assert [one.done for one in await engine.progress(name)] == [3, 0, 1, 2]
    assert [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")] == []
