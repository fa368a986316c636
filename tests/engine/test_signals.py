"""Durable signals: kept until they are waited for, one a wait, the same on every replay."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionStatus,
    SerializationError,
    SignalResult,
    SignalStatus,
    SignalTimeoutError,
    SqliteCheckpointStore,
    StepStatus,
    TimerStatus,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowSignal,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.processes import (
    Child,
    Harm,
    Journal,
    an_engine,
    die,
    open_harmed,
    run_process,
    run_until_killed,
)


@dataclasses.dataclass
class Approval:
    by: str
    limit: int


@workflow
async def two_waits(ctx: WorkflowContext) -> list[str]:
    first = await ctx.wait_signal("go")
    second = await ctx.wait_signal("go")
    return [first, second]


async def test_signals_are_kept_in_order_of_arrival_and_each_wait_takes_one() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(two_waits, execution_id="one")
        for payload in ("a", "b", "c"):
            await handle.signal("go", payload)
        assert await handle.result() == ["a", "b"]
        assert await store.load_pending_signals("one") == []  # nobody can wait for the third


async def test_a_signal_sent_before_anybody_waits_is_kept(file: Path) -> None:
    @workflow
    async def later(ctx: WorkflowContext) -> object:
        await ctx.sleep("first", timedelta(milliseconds=100))
        return await ctx.wait_signal("go")

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(later)
        await handle.signal("go", {"a": [1, None]})
        assert await handle.result() == {"a": [1, None]}


def test_a_crash_while_waiting_does_not_read_as_the_signal(file: Path, journal: Journal) -> None:
    @workflow
    async def gate(ctx: WorkflowContext) -> str:
        by = await ctx.wait_signal("approved")
        await ctx.step("ship", journal.note, "shipped")
        return str(by)

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(gate, execution_id="one")
            await asyncio.sleep(0.1)
            die()

    async def next_process(*, approve: bool) -> None:
        async with an_engine(file, workflows=[gate]) as (_, engine):
            await asyncio.sleep(0.2)
            assert await engine.handle("one").status() is ExecutionStatus.SUSPENDED
            assert journal.lines == []
            if approve:
                await engine.send_signal("one", "approved", "kim")
                assert await engine.handle("one").result() == "kim"

    run_until_killed(first_process)
    asyncio.run(next_process(approve=False))
    asyncio.run(next_process(approve=True))
    assert journal.lines == ["shipped"]


def test_a_delivered_signal_is_delivered_again_on_replay(file: Path, journal: Journal) -> None:
    @workflow
    async def remember(ctx: WorkflowContext) -> str:
        by = await ctx.wait_signal("approved")

        def note() -> None:
            if journal.note(by) == 1:
                die()

        await ctx.step("note", note)
        return str(by)

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(remember, execution_id="one")
            await handle.signal("approved", "kim")
            await handle.result()

    async def second_process() -> None:
        async with an_engine(file, workflows=[remember]) as (_, engine):
            assert await engine.run(remember, execution_id="one") == "kim"

    run_until_killed(first_process)
    asyncio.run(second_process())
    assert journal.lines == ["kim", "kim"]


async def test_delivery_and_checkpoint_are_one_transaction() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(two_waits, execution_id="one")
        await asyncio.sleep(0.05)
        await handle.signal("go", "a")
        await asyncio.sleep(0.05)
        checkpoints = await store.load_checkpoints("one")
        assert [(c.status, c.output_data) for c in checkpoints] == [
            (StepStatus.COMPLETED, '"a"'),
            (StepStatus.INTENT, None),
        ]
        assert await store.load_pending_signals("one") == []
        assert await handle.status() is ExecutionStatus.SUSPENDED


async def test_a_payload_comes_as_the_type_that_the_wait_names() -> None:
    @workflow
    async def typed(ctx: WorkflowContext) -> int:
        approval = await ctx.wait_signal("approved", type=Approval)
        assert isinstance(approval, Approval)
        return approval.limit

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(typed)
        await handle.signal("approved", Approval("kim", 100))
        assert await handle.result() == 100


async def test_a_payload_that_is_no_json_is_refused_with_nothing_written() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(two_waits, execution_id="one")
        with pytest.raises(SerializationError):
            await handle.signal("go", object())
        for name in ("", " go", "$cancel"):
            with pytest.raises(ValueError, match="name"):
                await handle.signal(name)
        assert await store.load_pending_signals("one") == []


async def test_a_signal_to_a_finished_execution_is_an_error_and_so_is_a_cancel() -> None:
    @workflow
    async def quick(ctx: WorkflowContext) -> None: ...

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(quick, execution_id="one")
        handle = engine.handle("one")
        for act in (
            lambda: engine.send_signal("one", "go"),
            lambda: handle.signal("go"),
            lambda: engine.cancel("one"),
            lambda: handle.cancel(),
            lambda: Client(store).send_signal("one", "go"),
            lambda: Client(store).cancel("one"),
        ):
            with pytest.raises(ExecutionFinishedError, match="is finished") as raised:
                await act()
            assert raised.value.workflow_execution_id == "one"
            assert raised.value.status == ExecutionStatus.COMPLETED
            assert not isinstance(raised.value, ExecutionConflictError)
        assert await store.load_signals("one") == []
        assert await store.load_audit_log("one") == []


@workflow
async def impatient(ctx: WorkflowContext, seconds: float) -> list[object]:
    try:
        await ctx.wait_signal("go", timeout=timedelta(seconds=seconds))
    except SignalTimeoutError as error:
        assert error.signal_name == "go"
        assert error.deadline is not None
        return ["timed out", await ctx.wait_signal("go")]
    return ["in time"]


async def test_a_signal_after_the_timeout_stays_for_the_next_wait() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(impatient, 0.1, execution_id="one")
        await asyncio.sleep(0.2)
        await handle.signal("go", "late")
        assert await handle.result() == ["timed out", "late"]
        assert [t.status for t in await store.load_timers("one")] == [TimerStatus.FIRED]


async def test_a_signal_in_time_cancels_the_timer() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(impatient, 60, execution_id="one")
        await asyncio.sleep(0.05)
        await handle.signal("go")
        assert await handle.result() == ["in time"]
        assert [t.status for t in await store.load_timers("one")] == [TimerStatus.CANCELLED]


def test_a_timeout_keeps_its_deadline_over_a_restart(file: Path) -> None:
    async def first_process() -> None:
        clock = ManualClock()
        async with an_engine(file, clock=clock) as (_, engine):
            await engine.start(impatient, 60.0, execution_id="one")
            await clock.advance(timedelta(seconds=30))
            die()

    async def second_process() -> None:
        clock = ManualClock()
        clock.set(clock.now() + timedelta(seconds=30))
        async with an_engine(file, workflows=[impatient], clock=clock) as (store, engine):
            await clock.advance(timedelta(seconds=29))
            assert len(await store.load_checkpoints("one")) == 1
            await clock.advance(timedelta(seconds=1))
            assert len(await store.load_checkpoints("one")) == 2
            await engine.send_signal("one", "go", "late")
            assert await engine.handle("one").result() == ["timed out", "late"]

    run_until_killed(first_process)
    asyncio.run(second_process())


def test_a_timeout_is_raised_again_on_replay(file: Path, journal: Journal) -> None:
    @workflow
    async def remember(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_signal("go", timeout=timedelta(milliseconds=10))
        except SignalTimeoutError:
            await ctx.step("note", lambda: die() if journal.note("timed out") == 1 else None)
            return "timed out"
        return "in time"

    async def main() -> None:
        async with an_engine(file, workflows=[remember]) as (_, engine):
            assert await engine.run(remember, execution_id="one") == "timed out"

    run_until_killed(main)
    asyncio.run(main())


def test_a_signal_that_came_in_time_counts_though_nobody_was_there_to_take_it(file: Path) -> None:
    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(impatient, 0.4, execution_id="one")
            await asyncio.sleep(0.05)
            die()

    async def send() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.send_signal(WorkflowSignal(workflow_execution_id="one", signal_name="go"))

    async def second_process() -> None:
        async with an_engine(file, workflows=[impatient]) as (_, engine):
            assert await engine.run(impatient, 0.4, execution_id="one") == ["in time"]

    run_until_killed(first_process)
    asyncio.run(send())
    time.sleep(0.5)
    asyncio.run(second_process())


async def test_a_signal_written_by_another_connection_is_noticed(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other,
        DurableEngine(store) as engine,
    ):
        handle = await engine.start(two_waits, execution_id="one")
        await asyncio.sleep(0.1)
        for payload in ('"a"', '"b"'):
            signal = WorkflowSignal(workflow_execution_id="one", signal_name="go", payload=payload)
            await other.send_signal(signal)
        assert await asyncio.wait_for(handle.result(), 2) == ["a", "b"]


async def test_two_waits_at_once_take_different_signals() -> None:
    @workflow
    async def both(ctx: WorkflowContext) -> list[str]:
        return list(await asyncio.gather(ctx.wait_signal("go"), ctx.wait_signal("go")))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(both, execution_id="one")
        await asyncio.sleep(0.05)
        await handle.signal("go", "a")
        await handle.signal("go", "b")
        assert await handle.result() == ["a", "b"]
        assert await store.load_pending_signals("one") == []


async def test_a_signal_keeps_the_time_at_which_it_was_sent() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.start(two_waits, execution_id="one")
        await engine.send_signal("one", "other", 1)
        (signal,) = await store.load_pending_signals("one", "other")
        assert signal.status is SignalStatus.PENDING
        assert abs(datetime.now(UTC) - signal.created_at) < timedelta(seconds=5)


async def test_signals_are_taken_in_order_though_the_clock_of_a_sender_is_ahead() -> None:
    @workflow
    async def two(ctx: WorkflowContext) -> list[str]:
        return [
            await ctx.wait_signal("go", timeout=timedelta(seconds=30), type=str) for _ in range(2)
        ]

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(two, execution_id="one")
        for payload, ahead in (("first", 1), ("second", 0)):
            await store.send_signal(
                WorkflowSignal(
                    workflow_execution_id="one",
                    signal_name="go",
                    payload=f'"{payload}"',
                    created_at=datetime.now(UTC) + timedelta(hours=ahead),
                )
            )
        assert await asyncio.wait_for(handle.result(), 30) == ["first", "second"]


async def test_engines_over_one_store_hear_of_what_the_other_sends() -> None:
    @workflow
    async def waiting(ctx: WorkflowContext) -> Any:
        return await ctx.wait_signal("go")

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store) as one, DurableEngine(store) as other:
            by_other = await one.start(waiting, execution_id="by other")
            by_store = await one.start(waiting, execution_id="by store")
            to_cancel = await one.start(waiting, execution_id="to cancel")
            await asyncio.sleep(0.1)
            await other.send_signal("by other", "go", 1)
            assert await asyncio.wait_for(other.handle("by other").result(), 30) == 1
            assert await by_other.result() == 1
            await store.send_signal(
                WorkflowSignal(workflow_execution_id="by store", signal_name="go", payload="2")
            )
            assert await asyncio.wait_for(by_store.result(), 30) == 2
            assert await other.cancel("to cancel")
            with pytest.raises(WorkflowCancelledError):
                await asyncio.wait_for(to_cancel.result(), 30)


async def test_engines_over_one_store_do_not_take_each_others_news(file: Path) -> None:
    @workflow
    async def waiting(ctx: WorkflowContext) -> Any:
        return await ctx.wait_signal("go")

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        async with DurableEngine(store), SqliteCheckpointStore.file(file) as elsewhere:
            for number in range(5):
                handle = await engine.start(waiting, execution_id=str(number))
                await asyncio.sleep(0.05)
                await elsewhere.send_signal(
                    WorkflowSignal(workflow_execution_id=str(number), signal_name="go", payload="7")
                )
                assert await asyncio.wait_for(handle.result(), 30) == 7


# Keys


@workflow
async def takes_two(ctx: WorkflowContext) -> list[object]:
    return [await ctx.wait_signal("go") for _ in range(2)]


async def test_a_second_signal_with_the_same_key_is_not_sent_and_says_so() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(takes_two, execution_id="one")
        assert await handle.signal("go", {"a": 1, "b": 2}, key="mail-88") is SignalResult.SENT
        again = await engine.send_signal("one", "go", {"b": 2, "a": 1}, key="mail-88")
        assert again is SignalResult.DUPLICATE
        assert not again
        assert f"{again} {SignalResult.SENT}" == "duplicate sent"
        for name, payload in (("on", {"a": 1, "b": 2}), ("go", {"a": 1, "b": 2.0}), ("go", None)):
            with pytest.raises(ExecutionConflictError, match="mail-88") as raised:
                await handle.signal(name, payload, key="mail-88")
            assert raised.value.workflow_execution_id == "one"
        for key in ("", " a", "a" * 257):
            with pytest.raises(ValueError, match="key of a signal"):
                await handle.signal("go", key=key)
        assert len(await store.load_signals("one")) == 1
        assert await handle.signal("go", "second", key="mail-89")
        assert await handle.result() == [{"a": 1, "b": 2}, "second"]
        # It was sent, and that is what a sender wants to know that asks again.
        assert not await handle.signal("go", "second", key="mail-89")
        with pytest.raises(ExecutionConflictError):
            await handle.signal("go", "third", key="mail-89")
        with pytest.raises(ExecutionFinishedError):
            await handle.signal("go", "third", key="mail-90")
        # A key is kept as long as its row is.
        await store.delete_old_signals(datetime.now(UTC) + timedelta(days=1))
        with pytest.raises(ExecutionFinishedError):
            await handle.signal("go", "second", key="mail-89")


async def test_a_null_is_the_same_as_no_payload() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(two_waits, execution_id="one")
        await store.send_signal(
            WorkflowSignal(workflow_execution_id="one", signal_name="no", signal_key="by hand")
        )
        assert await handle.signal("no", None, key="by hand") is SignalResult.DUPLICATE
        assert await handle.cancel()


@pytest.mark.few(1)
@pytest.mark.parametrize("same", [True, False])
def test_eight_processes_that_send_one_key_store_one_signal(
    file: Path, journal: Journal, same: bool
) -> None:
    processes, rounds = 8, 10

    async def start() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await Client(store).enqueue(two_waits, execution_id="one")

    def send(number: int) -> Callable[[Callable[[str], None]], None]:
        async def main() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                client = Client(store)
                for one in range(rounds):
                    payload = None if same else number
                    try:
                        sent = await client.send_signal("one", "go", payload, key=f"mail-{one}")
                        journal.note(f"{one} {sent}")
                    except ExecutionConflictError:
                        journal.note(f"{one} conflict")

        return lambda _: asyncio.run(main())

    asyncio.run(start())
    for child in [Child(send(number)) for number in range(processes)]:
        assert not child.is_killed_in_the_end()
    others = "duplicate" if same else "conflict"
    assert sorted(journal.lines) == sorted(
        line for one in range(rounds) for line in [f"{one} sent"] + [f"{one} {others}"] * 7
    )
    with closing(sqlite3.connect(file)) as connection:
        sql = "select count(*), count(distinct signal_key) from workflow_signals"
        assert connection.execute(sql).fetchone() == (rounds, rounds)


def test_a_sender_that_dies_over_it_may_send_again(file: Path) -> None:
    async def start() -> None:
        async with an_engine(file) as (_, engine):
            await engine.enqueue(two_waits, execution_id="one")

    def send(harm: Harm | None) -> Callable[[], Coroutine[Any, Any, None]]:
        async def main() -> None:
            async with open_harmed(file, harm) as store:
                assert await Client(store).send_signal("one", "go", 7, key="mail") in ("sent", "")

        return main

    asyncio.run(start())
    run_until_killed(send(Harm(1, is_before=True)))
    run_until_killed(send(Harm(1, is_before=False)))
    assert not run_process(send(None))
    with closing(sqlite3.connect(file)) as connection:
        sql = "select signal_name, payload, signal_key, status from workflow_signals"
        assert connection.execute(sql).fetchall() == [("go", "7", "mail", "PENDING")]
