"""Pausing and resuming: what runs ends its step, and nothing else begins until the resume."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    Cancellation,
    Client,
    DurableEngine,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    Limit,
    PauseScope,
    Queue,
    QueueNotFoundError,
    RetryPolicy,
    SqliteCheckpointStore,
    StepStatus,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowExecution,
    WorkflowExpiredError,
    WorkflowFailedError,
    WorkflowGuarantee,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, an_engine, until

DAY = timedelta(days=1)


class Gate:
    """A step that runs until it is let go."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.runs = 0

    async def __call__(self) -> str:
        self.runs += 1
        self.has_begun.set()
        await self.may_end.wait()
        return "through"


def steps_in(checkpoints: list[Any]) -> list[tuple[str, StepStatus]]:
    return [(one.step_name, one.status) for one in checkpoints]


async def has_left(store: SqliteCheckpointStore, execution_id: str) -> WorkflowExecution:
    """Wait until no worker has it."""

    def is_free() -> bool:
        return not store._connection.execute(
            "select 1 from workflow_claims where workflow_execution_id = ?", [execution_id]
        ).fetchall()

    await until(is_free)
    return await loaded(store, execution_id)


def gated(gate: Gate, journal: Journal) -> Any:
    @workflow
    async def order(ctx: WorkflowContext) -> str:
        first = await ctx.step("first", gate)
        await ctx.step("second", journal.note, "second")
        return first

    return order


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.mark.parametrize("guarantee", WorkflowGuarantee)
async def test_the_step_that_runs_is_recorded_and_no_other_begins(
    file: Path, journal: Journal, guarantee: WorkflowGuarantee
) -> None:
    gate = Gate()
    order = gated(gate, journal)
    async with an_engine(file, workflows=[order]) as (store, engine):
        handle = await engine.start(order, execution_id="e", guarantee=guarantee)
        await gate.has_begun.wait()
        assert await engine.pause("e", reason="the bank is closed", by="kim")
        record = await engine.load("e")
        assert record.status is ExecutionStatus.RUNNING
        assert (record.paused_by, record.paused_reason) == ("kim", "the bank is closed")
        gate.may_end.set()
        await has_left(store, "e")
        assert steps_in(await store.load_checkpoints("e")) == [("first", StepStatus.COMPLETED)]
        assert not engine._working().executions
        assert journal.lines == []
        assert await engine.resume("e", by="lee")
        assert await handle.result() == "through"
        assert journal.lines == ["second"]
        assert gate.runs == 1
        acts = await store.load_audit_log("e")
        assert [(one.act, one.actor) for one in acts] == [("pause", "kim"), ("resume", "lee")]
        ended = msgspec.json.decode(acts[1].details or "")
        assert ended["paused_by"] == "kim"
        assert ended["paused_reason"] == "the bank is closed"


async def test_another_process_may_pause_and_resume(file: Path, journal: Journal) -> None:
    gate = Gate()
    order = gated(gate, journal)
    async with (
        an_engine(file, workflows=[order]) as (store, engine),
        SqliteCheckpointStore.file(file) as elsewhere,
    ):
        client = Client(elsewhere)
        handle = await engine.start(order, execution_id="e")
        await gate.has_begun.wait()
        await client.pause("e")
        await until(lambda: engine._working().executions["e"].stops_after_steps is not None)
        gate.may_end.set()
        await has_left(store, "e")
        assert steps_in(await store.load_checkpoints("e")) == [("first", StepStatus.COMPLETED)]
        await client.resume("e")
        assert await handle.result() == "through"


async def test_pausing_twice_keeps_the_first_and_takes_a_new_reason(file: Path) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go")

    clock = ManualClock()
    async with SqliteCheckpointStore.file(file) as store:
        client = Client(store, clock=clock)
        await client.enqueue(order, execution_id="e")
        assert await client.pause("e", reason="first", by="kim")
        began = clock.now()
        await clock.advance(DAY)
        assert not await client.pause("e", by="lee")
        assert not await client.pause("e", reason="first", by="lee")
        assert not await client.pause("e", reason="second", by="lee")
        record = await client.load("e")
        assert (record.paused_at, record.paused_by, record.paused_reason) == (
            began,
            "kim",
            "second",
        )
        assert [
            (one.actor, msgspec.json.decode(one.details or "null"))
            for one in await store.load_audit_log("e")
        ] == [("kim", {"reason": "first"}), ("lee", {"reason": "second", "was": "first"})]
        assert await client.resume("e")
        assert not await client.resume("e")
        assert len(await store.load_audit_log("e")) == 3


async def test_what_cannot_be_paused_is_refused(file: Path) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        pass

    async with an_engine(file, workflows=[order]) as (store, engine):
        await engine.run(order, execution_id="e")
        before = await engine.load("e")
        with pytest.raises(ExecutionFinishedError, match="COMPLETED"):
            await engine.pause("e", reason="late")
        with pytest.raises(ExecutionNotFoundError):
            await engine.pause("unknown")
        with pytest.raises(ExecutionNotFoundError):
            await engine.resume("unknown")
        with pytest.raises(ValueError, match="did you mean 'order'"):
            await engine.pause_workflow("ordr")
        with pytest.raises(ValueError, match="did you mean 'order'"):
            await engine.resume_workflow("ordr")
        for refused in (engine.pause("e", reason=" "), engine.pause_all(reason="")):
            with pytest.raises(ValueError, match="reason must not be empty"):
                await refused
        with pytest.raises(TypeError, match="reason must be a string"):
            await engine.pause_all(reason=7)  # type: ignore[arg-type]
        assert not await engine.resume("e")
        assert not await engine.resume_workflow("order")
        assert not await engine.resume_all()
        assert await engine.load("e") == before
        assert await engine.pauses() == []
        assert await store.load_audit_log("e") == []


async def test_a_paused_execution_takes_no_signal_and_notices_no_deadline(file: Path) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.sleep("rest", timedelta(hours=1))
        return str(await ctx.wait_signal("approved", timeout=DAY))

    clock = ManualClock()
    async with an_engine(file, workflows=[order], clock=clock) as (store, engine):
        handle = await engine.start(order, execution_id="e")
        await until(lambda: has_status(store, "e", "SUSPENDED"))
        await engine.pause("e")
        await has_left(store, "e")
        await engine.send_signal("e", "approved", "kim")
        await clock.advance(timedelta(hours=2))
        (signal,) = await store.load_pending_signals("e", "approved")
        assert signal.payload == '"kim"'
        (rest,) = await store.load_checkpoints("e")
        assert rest.status is StepStatus.INTENT
        assert await store.claim_available([("order", 1)], 9, now=clock.now()) == []
        await engine.resume("e")
        assert await handle.result() == "kim"
        slept = (await store.load_checkpoints("e"))[0]
        assert slept.due_at is not None
        assert slept.started_at is not None
        assert slept.due_at - slept.started_at == timedelta(hours=1)


def has_status(store: SqliteCheckpointStore, execution_id: str, status: str) -> bool:
    return store._connection.execute(
        "select status from workflow_executions where workflow_execution_id = ?", [execution_id]
    ).fetchall() == [(status,)]


async def test_the_time_to_live_goes_on_and_counts_at_the_resume(
    file: Path, journal: Journal
) -> None:
    gate = Gate()

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("book", journal.note, "booked", compensate=lambda _: journal.note("undone"))
        await ctx.step("slow", gate)

    clock = ManualClock()
    async with an_engine(file, workflows=[order], clock=clock) as (store, engine):
        handle = await engine.start(order, execution_id="e", ttl=DAY)
        await gate.has_begun.wait()
        await engine.pause("e")
        await clock.advance(2 * DAY)
        await asyncio.sleep(0.05)
        gate.may_end.set()
        record = await has_left(store, "e")
        assert record.status is ExecutionStatus.RUNNING
        assert journal.lines == ["booked"]
        assert dict(steps_in(await store.load_checkpoints("e")))["slow"] is StepStatus.COMPLETED
        await engine.resume("e")
        with pytest.raises(WorkflowExpiredError):
            await handle.result()
        assert journal.lines == ["booked", "undone"]


async def test_no_attempt_begins_while_an_execution_is_paused(file: Path, journal: Journal) -> None:
    def fail() -> None:
        journal.note("try")
        if len(journal.lines) < 3:
            raise ConnectionError("not now")

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        retry = RetryPolicy.fixed(max_attempts=9, delay=timedelta(hours=1))
        await ctx.step("pay", fail, retry=retry)

    clock = ManualClock()
    async with an_engine(file, workflows=[order], clock=clock) as (store, engine):
        handle = await engine.start(order, execution_id="e")
        await until(lambda: bool(journal.lines))
        await until(lambda: has_failed_once(store))
        await engine.pause("e")
        await has_left(store, "e")
        await engine.retry("e")  # it only makes the next attempt due
        await clock.advance(DAY)
        assert journal.lines == ["try"]
        await engine.resume("e")
        await until(lambda: len(journal.lines) == 2)
        await until(lambda: has_failed_once(store, attempt=2))
        await clock.advance(timedelta(hours=1))
        await handle.result()
        assert journal.lines == ["try"] * 3


def has_failed_once(store: SqliteCheckpointStore, attempt: int = 1) -> bool:
    return bool(
        store._connection.execute(
            "select 1 from step_checkpoints where status = 'FAILED' and attempt = ?", [attempt]
        ).fetchall()
    )


async def test_no_compensation_begins_while_an_execution_is_paused(
    file: Path, journal: Journal
) -> None:
    undoing, may_end = threading.Event(), threading.Event()

    def undo(what: str) -> None:
        undoing.set()
        may_end.wait(30)
        journal.note(f"undone {what}")

    def fail() -> None:
        raise ConnectionError("refused")

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        for what in ("hotel", "flight"):
            await ctx.step(what, lambda what=what: what, compensate=undo)
        await ctx.step("pay", fail)

    async with an_engine(file, workflows=[order]) as (store, engine):
        handle = await engine.start(order, execution_id="e")
        await asyncio.to_thread(undoing.wait, 30)
        await engine.pause("e")
        may_end.set()
        record = await has_left(store, "e")
        assert record.status is ExecutionStatus.COMPENSATING
        assert journal.lines == ["undone flight"]
        assert await engine.cancel("e") is Cancellation.REFUSED  # it is being undone already
        assert (await engine.load("e")).paused_at is not None
        await engine.resume("e")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        assert journal.lines == ["undone flight", "undone hotel"]


@pytest.mark.parametrize("is_running", [False, True])
async def test_a_cancel_ends_the_pause_and_undoes(
    file: Path, journal: Journal, is_running: bool
) -> None:
    gate = Gate()

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("book", journal.note, "booked", compensate=lambda _: journal.note("undone"))
        await ctx.step("slow", gate)
        await ctx.step("never", journal.note, "never")

    async with an_engine(file, workflows=[order]) as (store, engine):
        handle = await engine.start(order, execution_id="e")
        await gate.has_begun.wait()
        await engine.pause("e", reason="the bank", by="kim")
        if not is_running:
            gate.may_end.set()
            await has_left(store, "e")
        assert await engine.cancel("e", by="lee") is Cancellation.ASKED
        gate.may_end.set()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert journal.lines == ["booked", "undone"]
        record = await engine.load("e")
        assert (record.paused_at, record.paused_by) == (None, None)
        (_, cancel) = await store.load_audit_log("e")
        assert (cancel.act, cancel.actor) == ("cancel", "lee")
        assert msgspec.json.decode(cancel.details or "")["paused_reason"] == "the bank"


async def test_what_was_asked_to_cancel_and_paused_then_is_cancelled_by_the_next_cancel(
    file: Path,
) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("one", lambda: 1)
        await ctx.wait_signal("never")

    async with an_engine(file, workflows=[order]) as (store, engine):
        await engine.start(order, execution_id="e")
        await until(lambda: has_status(store, "e", "SUSPENDED"))
    async with SqliteCheckpointStore.file(file) as store:
        client = Client(store)
        assert await client.cancel("e") is Cancellation.ASKED
        await client.pause("e")
        assert await client.cancel("e") is Cancellation.ASKED
        assert (await client.load("e")).paused_at is None
        assert await client.cancel("e") is Cancellation.REFUSED
    async with an_engine(file, workflows=[order]) as (_, engine):
        with pytest.raises(WorkflowCancelledError):
            await engine.result_of("e")


async def test_a_paused_execution_that_has_not_begun_is_cancelled_at_once(file: Path) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        pass

    async with SqliteCheckpointStore.file(file) as store:
        client = Client(store)
        await client.enqueue(order, execution_id="e")
        await client.pause("e", by="kim")
        await client.pause_all()
        assert await client.cancel("e") is Cancellation.ENDED
        record = await client.load("e")
        assert (record.status, record.paused_at) == (ExecutionStatus.CANCELLED, None)


async def test_a_paused_execution_gives_its_slot_to_others(file: Path, journal: Journal) -> None:
    gate = Gate()
    order = gated(gate, journal)

    async with an_engine(file, workflows=[order], max_concurrent=1) as (store, engine):
        first = await engine.enqueue(order, execution_id="first")
        await gate.has_begun.wait()
        await engine.pause("first")
        second = await engine.enqueue(order, execution_id="second")
        gate.may_end.set()
        assert await second.result() == "through"
        assert (await loaded(store, "first")).paused_at is not None
        await engine.resume("first")
        assert await first.result() == "through"


async def test_a_pause_outlives_the_engine(file: Path, journal: Journal) -> None:
    gate = Gate()
    gate.may_end.set()
    order = gated(gate, journal)
    async with SqliteCheckpointStore.file(file) as store:
        client = Client(store)
        await client.enqueue(order, execution_id="e")
        await client.pause("e")
    for _ in range(2):
        async with an_engine(file, workflows=[order]) as (store, engine):
            await asyncio.sleep(0.05)
            assert (await loaded(store, "e")).status is ExecutionStatus.PENDING
    async with an_engine(file, workflows=[order]) as (_, engine):
        await engine.resume("e")
        assert await engine.result_of("e") == "through"


@pytest.mark.parametrize("scope", [PauseScope.WORKFLOW, PauseScope.ALL])
@pytest.mark.parametrize("guarantee", WorkflowGuarantee)
async def test_all_of_a_workflow_stop_after_their_steps_and_new_ones_wait(
    file: Path, journal: Journal, scope: PauseScope, guarantee: WorkflowGuarantee
) -> None:
    gate = Gate()
    order = gated(gate, journal)

    @workflow
    async def other(ctx: WorkflowContext) -> str:
        return await ctx.step("only", lambda: "done")

    async with (
        an_engine(file, workflows=[order, other]) as (store, engine),
        SqliteCheckpointStore.file(file) as elsewhere,
    ):
        client = Client(elsewhere)
        handle = await engine.start(order, execution_id="running", guarantee=guarantee)
        await gate.has_begun.wait()
        if scope is PauseScope.ALL:
            assert await client.pause_all(reason="we move", by="kim")
            assert not await client.pause_all()
        else:
            assert await client.pause_workflow("order", reason="we move", by="kim")
            assert not await client.pause_workflow("order")
            assert await engine.run(other) == "done"
        (pause,) = await client.pauses()
        assert (pause.scope, pause.paused_by, pause.paused_reason) == (scope, "kim", "we move")
        await until(lambda: engine._working().executions["running"].stops_after_steps is not None)
        gate.may_end.set()
        record = await has_left(store, "running")
        assert (record.status, record.paused_at) == (ExecutionStatus.RUNNING, None)
        assert journal.lines == []
        new = await engine.start(order, execution_id="new", guarantee=guarantee)
        queued = await client.enqueue(order, execution_id="queued")
        await asyncio.sleep(0.05)
        for one in ("new", "queued"):
            assert (await loaded(store, one)).status is ExecutionStatus.PENDING
        if scope is PauseScope.ALL:
            assert await client.resume_all()
        else:
            assert await client.resume_workflow("order")
        assert await asyncio.gather(handle.result(), new.result()) == ["through"] * 2
        assert await engine.result_of(queued.execution_id) == "through"
        assert await client.pauses() == []
        assert gate.runs == 3


async def test_what_runs_in_a_paused_queue_ends_its_step_and_frees_its_slot(
    file: Path, journal: Journal
) -> None:
    gate = Gate()
    order = gated(gate, journal)

    @workflow
    async def other(ctx: WorkflowContext) -> str:
        return await ctx.step("only", lambda: "done")

    async with (
        an_engine(file, workflows=[order, other]) as (store, engine),
        SqliteCheckpointStore.file(file) as elsewhere,
    ):
        await engine.declare(Queue("mail", concurrency=1), Queue("fax"))
        client = Client(elsewhere)
        handle = await engine.enqueue(order, execution_id="running", queue="mail")
        await gate.has_begun.wait()
        assert await client.pause_queue("mail", reason="we move", by="kim")
        assert not await client.pause_queue("mail")
        (pause,) = await client.pauses()
        assert (pause.scope, pause.name, pause.paused_by) == (PauseScope.QUEUE, "mail", "kim")
        await until(lambda: engine._working().executions["running"].stops_after_steps is not None)
        gate.may_end.set()
        record = await has_left(store, "running")
        assert (record.status, record.paused_at) == (ExecutionStatus.RUNNING, None)
        assert steps_in(await store.load_checkpoints("running")) == [
            ("first", StepStatus.COMPLETED)
        ]
        # Whatever is in no queue, or in another one, goes on, of the same workflow, too.
        assert await engine.run(other) == "done"
        fax = await client.enqueue(order, queue="fax")
        assert await client.result_of(fax.execution_id) == "through"
        new = await engine.enqueue(other, execution_id="new", queue="mail")
        await asyncio.sleep(0.05)
        assert (await loaded(store, "new")).status is ExecutionStatus.PENDING
        assert journal.lines == ["second"]
        assert await client.resume_queue("mail")
        assert not await client.resume_queue("mail")
        assert await asyncio.gather(handle.result(), new.result()) == ["through", "done"]
        assert journal.lines == ["second", "second"]
        assert gate.runs == 2


async def test_what_waits_in_a_paused_queue_takes_its_signal_after_the_resume(
    file: Path,
) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("go"))

    async with an_engine(file, workflows=[order]) as (store, engine):
        await engine.declare(Queue("mail", concurrency=1))
        handle = await engine.enqueue(order, execution_id="e", queue="mail")
        await until(lambda: has_status(store, "e", "SUSPENDED"))
        await engine.pause_queue("mail")
        await engine.send_signal("e", "go", "now")
        await has_left(store, "e")
        await asyncio.sleep(0.05)
        assert (await loaded(store, "e")).status is ExecutionStatus.SUSPENDED
        await engine.resume_queue("mail")
        assert await handle.result() == "now"


async def test_a_queue_that_is_not_declared_cannot_be_paused(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        client = Client(store)
        await client.declare(Queue("mail"), Limit("api", concurrency=1))
        for act in (client.pause_queue, client.resume_queue):
            with pytest.raises(QueueNotFoundError, match=r"no queue 'mial'.*did you mean 'mail'"):
                await act("mial")
            with pytest.raises(QueueNotFoundError):
                await act("api")
            with pytest.raises(ValueError):
                await act("")
            with pytest.raises(TypeError):
                await act(None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="reason"):
            await client.pause_queue("mail", reason=" ")
        assert await client.pauses() == []


async def test_a_paused_execution_of_a_paused_workflow_needs_both_resumed(file: Path) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> str:
        return await ctx.step("only", lambda: "done")

    async with an_engine(file, workflows=[order]) as (store, engine):
        await engine.pause_workflow("order")
        handle = await engine.start(order, execution_id="e")
        await engine.pause("e")
        await engine.resume("e")
        await asyncio.sleep(0.05)
        assert (await loaded(store, "e")).status is ExecutionStatus.PENDING
        await engine.pause("e")
        await engine.resume_workflow("order")
        await asyncio.sleep(0.05)
        assert (await loaded(store, "e")).status is ExecutionStatus.PENDING
        await engine.resume("e")
        assert await handle.result() == "done"


async def test_a_cancel_counts_once_its_workflow_is_resumed(file: Path, journal: Journal) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("book", journal.note, "booked", compensate=lambda _: journal.note("undone"))
        await ctx.wait_signal("never")

    async with an_engine(file, workflows=[order]) as (store, engine):
        handle = await engine.start(order, execution_id="e")
        await until(lambda: has_status(store, "e", "SUSPENDED"))
        await engine.pause_workflow("order")
        await has_left(store, "e")
        assert await engine.cancel("e") is Cancellation.ASKED
        await asyncio.sleep(0.05)
        assert journal.lines == ["booked"]
        await engine.resume_workflow("order")
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert journal.lines == ["booked", "undone"]


async def test_an_engine_is_disposed_of_while_what_is_paused_ends_its_step(
    file: Path, journal: Journal
) -> None:
    gate = Gate()
    order = gated(gate, journal)
    async with SqliteCheckpointStore.file(file) as store:
        engine = DurableEngine(store, workflows=[order])
        async with engine:
            await engine.start(order, execution_id="e")
            await gate.has_begun.wait()
            await engine.pause("e")
            asyncio.get_running_loop().call_later(0.05, gate.may_end.set)
            await engine.dispose(grace=timedelta(seconds=20))
        record = await loaded(store, "e")
        assert record.paused_at is not None
        assert steps_in(await store.load_checkpoints("e")) == [("first", StepStatus.COMPLETED)]
        await Client(store).resume("e")
    async with an_engine(file, workflows=[order]) as (_, engine):
        assert await engine.result_of("e") == "through"
    assert gate.runs == 1


async def test_a_paused_execution_holds_no_slot_of_its_queue_or_of_a_limit(
    file: Path, journal: Journal
) -> None:
    gate = Gate()

    @workflow
    async def holds(ctx: WorkflowContext) -> str:
        return await ctx.step("hold", gate, limit="api")

    @workflow
    async def order(ctx: WorkflowContext, name: str) -> None:
        await ctx.step("call", journal.note, name, limit="api")
        await ctx.step("more", journal.note, f"{name} more")

    async with an_engine(file, workflows=[holds, order]) as (store, engine):
        await engine.declare(Limit("api", concurrency=1), Queue("mail", concurrency=1))
        held = await engine.start(holds)
        await gate.has_begun.wait()
        first = await engine.enqueue(order, "first", execution_id="first", queue="mail")
        await until(lambda: has_status(store, "first", "RUNNING"))
        second = await engine.enqueue(order, "second", execution_id="second", queue="mail")
        await engine.pause("first")  # it waits for the slot of the limit
        await has_left(store, "first")
        await until(lambda: has_status(store, "second", "RUNNING"))
        gate.may_end.set()
        await held.result()
        await second.result()
        assert journal.lines == ["second", "second more"]
        await engine.resume("first")
        await first.result()
        assert journal.lines == ["second", "second more", "first", "first more"]


async def test_a_child_of_a_paused_workflow_waits_and_its_parent_gets_its_end(file: Path) -> None:
    @workflow
    async def parcel(ctx: WorkflowContext) -> str:
        return await ctx.step("pack", lambda: "packed")

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        return await ctx.child("parcel", parcel)

    async with an_engine(file, workflows=[order, parcel]) as (store, engine):
        await engine.pause_workflow("parcel")
        handle = await engine.start(order, execution_id="e")
        await until(lambda: has_status(store, "e", "SUSPENDED"))
        (child,) = store._connection.execute(
            "select workflow_execution_id, status from workflow_executions"
            " where parent_execution_id = 'e'"
        ).fetchall()
        assert child[1] == "PENDING"
        await engine.resume_workflow("parcel")
        assert await handle.result() == "packed"


async def test_a_paused_child_is_cancelled_with_its_parent_once_it_is_resumed(file: Path) -> None:
    @workflow
    async def parcel(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("never")

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.child("parcel", parcel)

    async with an_engine(file, workflows=[order, parcel]) as (store, engine):
        handle = await engine.start(order, execution_id="e")
        find = "select workflow_execution_id from workflow_executions where status = 'SUSPENDED'"
        await until(lambda: len(store._connection.execute(find).fetchall()) == 2)
        (child,) = (one for (one,) in store._connection.execute(find) if one != "e")
        await engine.pause(child)
        await has_left(store, child)
        await engine.cancel("e")
        await until(lambda: has_status(store, "e", "COMPENSATING"))
        assert has_status(store, child, "SUSPENDED")
        await engine.resume(child)
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert has_status(store, child, "CANCELLED")


@pytest.mark.parametrize("guarantee", WorkflowGuarantee)
async def test_a_pause_that_begins_here_may_end_elsewhere(
    file: Path, guarantee: WorkflowGuarantee
) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("go"))

    async with (
        an_engine(file, workflows=[order]) as (_, engine),
        SqliteCheckpointStore.file(file) as elsewhere,
    ):
        handle = await engine.start(order, execution_id="e", guarantee=guarantee)
        client = Client(elsewhere)
        for _ in range(10):
            await engine.pause_workflow("order")
            assert await client.resume_workflow("order")
        await engine.send_signal("e", "go", "on")
        async with asyncio.timeout(30):
            assert await handle.result() == "on"


@pytest.mark.parametrize("times", [20, pytest.param(80, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("guarantee", WorkflowGuarantee)
async def test_pauses_that_follow_one_another_at_once_leave_nobody_asleep(
    file: Path, guarantee: WorkflowGuarantee, times: int
) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("go"))

    chance = random.Random(guarantee.value)
    async with (
        an_engine(file, workflows=[order]) as (_, engine),
        SqliteCheckpointStore.file(file) as elsewhere,
    ):
        clients = [engine, Client(elsewhere)]
        handle = await engine.start(order, execution_id="e", guarantee=guarantee)
        for _ in range(times):
            first, second = (chance.choice(clients) for _ in range(2))
            is_whole = chance.random() < 0.5
            await (first.pause_workflow("order") if is_whole else first.pause("e"))
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.005]))
            await (second.resume_workflow("order") if is_whole else second.resume("e"))
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.005]))
        await engine.send_signal("e", "go", "on")
        async with asyncio.timeout(30):
            assert await handle.result() == "on"
