"""What has not begun when its workflow fails does not begin any more."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    Record,
    RetryPolicy,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepKind,
    WorkflowCancelledError,
    WorkflowClaim,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from tests.processes import Journal, an_engine, die, run_until_killed, until


def test_a_step_that_waits_for_a_thread_does_not_begin_once_its_workflow_has_failed(
    file: Path, journal: Journal
) -> None:
    go_on = threading.Event()
    has_begun = threading.Event()

    def holds_the_thread() -> None:
        has_begun.set()
        go_on.wait(10)

    async def fails() -> None:
        await until(has_begun.is_set)
        raise LookupError

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.step("holds the thread", holds_the_thread),
            ctx.step("waits for it", lambda: journal.note("began")),
            ctx.step("fails", fails),
        )

    async def main() -> None:
        async with an_engine(file, max_concurrent=1) as (_, engine):
            handle = await engine.start(body)
            asyncio.get_running_loop().call_later(0.2, go_on.set)
            with pytest.raises(WorkflowFailedError):
                await handle.result()

    asyncio.run(main())
    assert "began" not in journal.lines


@pytest.mark.parametrize("how", ["ends", "fails", "cancels", "awaits"])
async def test_the_log_warns_of_a_step_that_never_began_since_its_workflow_ended_well(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def goes_on() -> None:
        await asyncio.sleep(10)

    @workflow
    async def ends_early(ctx: WorkflowContext) -> str:
        running = asyncio.create_task(ctx.step("goes on", goes_on))
        waiting = asyncio.create_task(ctx.wait_signal("never"))
        await ctx.step("first", int)
        task = asyncio.create_task(ctx.step("charge", ran.append, 1))
        if how == "fails":
            raise ValueError(how)
        if how == "cancels":
            task.cancel()
        if how == "awaits":
            await task
        assert not (running.done() or waiting.done())
        return "done"

    ran: list[int] = []

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, cancel_grace=timedelta(0)) as engine:
            if how == "fails":
                with pytest.raises(WorkflowFailedError):
                    await engine.run(ends_early, execution_id="one")
            else:
                assert await engine.run(ends_early, execution_id="one") == "done"
    assert ran == ([1] if how == "awaits" else [])
    warnings = [one for one in caplog.records if one.levelname == "WARNING"]
    warnings = [one for one in warnings if "never began" in one.getMessage()]
    assert [one.getMessage() for one in warnings] == (
        [
            "step 'charge' of execution 'one' never began: the workflow function ended, and"
            " nothing awaited the step"
        ]
        if how == "ends"
        else []
    )


def test_a_step_in_doubt_that_is_kept_from_beginning_again_is_undone_all_the_same(
    file: Path, journal: Journal
) -> None:
    go_on, is_held = threading.Event(), threading.Event()
    processes = {"one": 1}

    def holds_the_thread() -> None:
        is_held.set()
        go_on.wait(10)

    def book() -> str:
        journal.note("booked")
        if processes["one"] == 1:
            die()
        return "booking"

    async def fails() -> None:
        await until(lambda: processes["one"] != 1 and is_held.is_set())
        raise LookupError

    @workflow
    async def body(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.step("holds the thread", holds_the_thread),
            ctx.step("book", book, compensate=lambda booking: journal.note(f"undid {booking}")),
            ctx.step("fails", fails),
        )

    async def main() -> None:
        async with an_engine(file, max_concurrent=3 - processes["one"]) as (_, engine):
            handle = await engine.start(body, execution_id="one")
            asyncio.get_running_loop().call_later(0.2, go_on.set)
            with pytest.raises(WorkflowFailedError):
                await handle.result()

    run_until_killed(main)
    processes["one"] = 2
    asyncio.run(main())
    assert journal.lines == ["booked", "booked", "undid booking"]


@pytest.mark.parametrize("how", ["ends", "fails", "is cancelled"])
def test_what_a_killed_worker_left_running_and_nobody_awaits_is_recorded_as_cut_off(
    how: str, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    processes = {"one": 1}

    async def runs() -> None:
        await asyncio.Event().wait()

    def is_refused() -> None:
        raise ConnectionError

    hourly = RetryPolicy(type="fixed", max_attempts=9, initial_delay=timedelta(hours=1))

    @workflow
    async def body(ctx: WorkflowContext) -> str:
        tasks = {
            asyncio.create_task(ctx.step("mail", runs)),
            asyncio.create_task(ctx.step("call", is_refused, retry=hourly)),
        }
        await ctx.wait_signal("go")
        if how == "fails":
            raise ValueError(how)
        if how == "is cancelled":
            await ctx.sleep("long", timedelta(days=1))
        assert not any(task.done() for task in tasks)
        return "done"

    class KillableStore(SqliteCheckpointStore):
        async def save(
            self, *records: Record, claim: WorkflowClaim | None = None, **more: Any
        ) -> None:
            await super().save(*records, claim=claim, **more)
            is_go = any(isinstance(one, StepCheckpoint) and one.event == 1 for one in records)
            if processes["one"] == 1 and is_go:
                die()

    async def main() -> None:
        async with KillableStore.file(file) as store, DurableEngine(store) as engine:
            if processes["one"] == 2 and how == "is cancelled":
                await Client(store).cancel("one")
            handle = await engine.start(body, execution_id="one")
            if processes["one"] == 1:
                open_steps = 2
                while open_steps:
                    await asyncio.sleep(0.01)
                    records = await store.load_checkpoints("one")
                    open_steps = 2 - sum(one.kind is StepKind.STEP for one in records)
                    open_steps += not any(one.due_at for one in records)
                await handle.signal("go")
            with suppress(WorkflowFailedError, WorkflowCancelledError):
                assert await handle.result() == "done"

    run_until_killed(main)
    processes["one"] = 2
    asyncio.run(main())
    with closing(sqlite3.connect(file)) as connection, connection:
        found = connection.execute(
            "select step_name, attempt, status, error_type, error_message from step_checkpoints"
            " where kind = 'STEP' order by step_name, attempt"
        ).fetchall()
        in_doubt = connection.execute("select step_name from workflow_in_doubt").fetchall()
    cancelled = "asyncio.exceptions:CancelledError"
    assert found[0][:4] == ("call", 1, "FAILED", "builtins:ConnectionError")
    assert found[1:] == [
        ("call", 2, "FAILED", cancelled, "it never began"),
        ("mail", 1, "FAILED", cancelled, "it was cut off and may have taken effect"),
    ]
    assert in_doubt == [("mail",)]
    assert "step 'mail' of execution 'one' was cut off at attempt 1" in caplog.text
