"""Steps that may run twice: one write each, and never in doubt."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    Limit,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowCodeError,
    WorkflowContext,
    open_reader,
    workflow,
)
from durable_workflow_sqlite.records import TIMED_OUT
from durable_workflow_sqlite.testing.contract_base import NOON, loaded, new_audit_entry
from tests.processes import Journal, an_engine, die, run_until_killed, until

QUICK = timedelta(milliseconds=5)


def rows_of(file: Path) -> list[tuple[str, int, str]]:
    """What another connection sees: the steps, their attempts and statuses."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(
            "select step_name, attempt, status from step_checkpoints order by id"
        ).fetchall()


async def test_only_the_outcome_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    seen: list[Any] = []

    async def read(number: int) -> int:
        seen.append(rows_of(file))
        return number

    def read_in_thread(number: int) -> int:
        seen.append(rows_of(file))
        return number

    @workflow
    async def reads(ctx: WorkflowContext) -> int:
        one = await ctx.step("one", read, 1, idempotent=True)
        return one + await ctx.step("two", read_in_thread, 2, idempotent=True)

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        assert await engine.run(reads, execution_id="e") == 3
        one, two = await store.load_checkpoints("e")
        assert (one.event, two.event) == (1, 2)
        assert one.started_at is not None
        assert one.completed_at is not None
    completed = [("one", 1, "COMPLETED"), ("two", 1, "COMPLETED")]
    assert seen == [[], completed[:1]]
    assert rows_of(file) == completed


async def test_after_a_crash_it_runs_again_and_is_not_in_doubt(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    journal = Journal(tmp_path / "journal")

    async def read(is_to_die: bool) -> str:
        journal.note("read")
        if is_to_die:
            die()
        return "read"

    def made(is_to_die: bool) -> Any:
        @workflow(name="reads")
        async def reads(ctx: WorkflowContext) -> str:
            return await ctx.step("read", read, is_to_die, idempotent=True)

        return reads

    async def first() -> None:
        async with an_engine(file) as (_, engine):
            await engine.run(made(True), execution_id="e")

    run_until_killed(first)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select count(*) from workflow_in_doubt").fetchone() == (0,)
    assert rows_of(file) == []
    async with an_engine(file, workflows=[made(False)]) as (_, engine):
        assert await engine.result_of("e") == "read"
    assert rows_of(file) == [("read", 1, "COMPLETED")]
    assert journal.lines == ["read", "read"]


async def test_attempts_that_fail_are_recorded_and_the_last_is_the_outcome() -> None:
    runs: list[int] = []

    async def flaky() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise ConnectionError(f"attempt {len(runs)}")
        return "done"

    @workflow
    async def retries(ctx: WorkflowContext) -> str:
        retry = RetryPolicy.fixed(max_attempts=5, delay=QUICK)
        return await ctx.step("flaky", flaky, retry=retry, idempotent=True)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(retries, execution_id="e") == "done"
        assert [(one.attempt, one.status) for one in await store.load_checkpoints("e")] == [
            (1, StepStatus.FAILED),
            (2, StepStatus.FAILED),
            (3, StepStatus.COMPLETED),
        ]


async def test_a_value_that_somebody_gives_in_a_back_off_is_its_outcome() -> None:
    runs: list[int] = []

    async def fails() -> str:
        runs.append(1)
        raise ConnectionError

    @workflow
    async def waits(ctx: WorkflowContext) -> str:
        retry = RetryPolicy.fixed(max_attempts=5, delay=timedelta(hours=1))
        return await ctx.step("fails", fails, retry=retry, idempotent=True)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(waits, execution_id="e")
        await until(lambda: runs)
        await until(lambda: _is_failed(store))
        await engine.resolve("e", "fails", "by hand")
        assert await handle.result() == "by hand"
    assert len(runs) == 1


async def _is_failed(store: SqliteCheckpointStore) -> bool:
    return bool(await store.load_checkpoints("e"))


async def test_of_one_that_the_workflow_gives_up_nothing_is_recorded() -> None:
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(60)

    @workflow
    async def gives_up(ctx: WorkflowContext) -> str:
        task = asyncio.ensure_future(ctx.step("slow", slow, idempotent=True))
        await ctx.wait_signal("enough")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return "gave up"

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(gives_up, execution_id="e")
        await begun.wait()
        await engine.send_signal("e", "enough")
        assert await handle.result() == "gave up"
        assert [one.step_name for one in await store.load_checkpoints("e")] == ["enough"]


async def test_under_a_limit_it_holds_a_slot_while_it_runs() -> None:
    at_work = 0
    most = 0

    async def call() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.01)
        at_work -= 1

    @workflow
    async def calls(ctx: WorkflowContext) -> None:
        await ctx.step("call", call, idempotent=True, limit="api")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.declare(Limit("api", concurrency=2))
        await asyncio.gather(*(engine.run(calls) for _ in range(8)))
        assert most == 2
        room = await store.load_limit_room("api", None)
        assert room.is_free


async def test_one_that_is_given_up_under_a_limit_frees_its_slot() -> None:
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(60)

    @workflow
    async def gives_up(ctx: WorkflowContext) -> str:
        task = asyncio.ensure_future(ctx.step("slow", slow, idempotent=True, limit="api"))
        await ctx.wait_signal("enough")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return await ctx.step("next", lambda: "next", idempotent=True, limit="api")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.declare(Limit("api", concurrency=1))
        handle = await engine.start(gives_up, execution_id="e")
        await begun.wait()
        await engine.send_signal("e", "enough")
        async with asyncio.timeout(20):
            assert await handle.result() == "next"
        assert (await store.load_limit_room("api", None)).is_free


@pytest.mark.parametrize("max_attempts", [2, 5], ids=["the last", "one of several"])
async def test_a_value_that_somebody_gives_while_an_attempt_runs_that_fails_is_its_outcome(
    max_attempts: int,
) -> None:
    """Its beginning is not recorded: for all that people see, the step is still in a back-off."""
    given = asyncio.Event()
    runs: list[int] = []

    async def fails() -> str:
        runs.append(1)
        if len(runs) == 2:
            await given.wait()
        raise ConnectionError

    @workflow
    async def waits(ctx: WorkflowContext) -> str:
        retry = RetryPolicy.exponential(
            max_attempts=max_attempts, initial_delay=QUICK, multiplier=1e6, jitter=0
        )
        return await ctx.step("fails", fails, retry=retry, idempotent=True)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(waits, execution_id="e")
        await until(lambda: len(runs) == 2)
        await engine.resolve("e", "fails", "by hand")
        given.set()
        async with asyncio.timeout(10):
            assert await handle.result() == "by hand"
        taken = [(one.attempt, one.status) for one in await store.load_checkpoints("e")]
        assert taken == [(1, StepStatus.FAILED), (2, StepStatus.COMPLETED)]
    assert len(runs) == 2


async def test_a_replay_gives_back_what_it_returned() -> None:
    runs: list[int] = []

    async def read() -> int:
        runs.append(1)
        return len(runs)

    @workflow
    async def reads(ctx: WorkflowContext) -> int:
        one = await ctx.step("read", read, idempotent=True)
        await ctx.wait_signal("go on")
        return one

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, [reads]) as engine:
            await engine.start(reads, execution_id="e")
            await until(lambda: runs)
        async with DurableEngine(store, [reads]) as engine:
            await engine.send_signal("e", "go on")
            assert await engine.result_of("e") == 1
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"idempotent": True, "compensate": print}, "has an effect"),
        ({"idempotent": 1}, "must be a bool"),
        ({"idempotent": "yes"}, "must be a bool"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nothing_written(
    options: dict[str, Any], words: str
) -> None:
    @workflow
    async def asks(ctx: WorkflowContext) -> None:
        step = cast("Callable[..., Any]", ctx.step)
        await step("read", lambda: 1, **options)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises((ValueError, WorkflowCodeError), match=words):
            await engine.run(asks, execution_id="e")
        assert (await loaded(store, "e")).current_step == 0
        assert await store.load_checkpoints("e") == []


@pytest.mark.parametrize("how", ["its last attempt", "given up", "cancelled at once"])
async def test_one_that_timed_out_is_not_listed_as_in_doubt(how: str, tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    is_last = how == "its last attempt"

    @workflow
    async def reads(ctx: WorkflowContext) -> None:
        hourly = RetryPolicy.fixed(max_attempts=1 if is_last else 9, delay=timedelta(hours=1))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1 if how == "given up" else None):
                await ctx.step(
                    "read", asyncio.sleep, 30, idempotent=True, timeout=QUICK, retry=hourly
                )
        raise ValueError("fails")

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            handle = await engine.start(reads, execution_id="e")
            if how == "cancelled at once":
                await until(lambda: bool(rows_of(file)))
                await handle.cancel()
            with suppress(ValueError, DurableWorkflowError):
                await handle.result()
        steps = [one for one in await store.load_checkpoints("e") if one.step_name == "read"]
        assert any(one.error_type == TIMED_OUT for one in steps)
        assert await store.acknowledge("e", new_audit_entry("acknowledge", "e"), now=NOON) == 0
    with open_reader(file) as reader:
        assert [one for one in reader.check_up(NOON) if one.check == "cut-off"] == []
        assert reader.overview(NOON, limit=9).cut_off == ()
