"""The pause of an execution holds what is below it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    Cancellation,
    Client,
    DurableEngine,
    ExecutionStatus,
    OnParentEnd,
    SqliteCheckpointStore,
    WorkflowCancelledError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.store import pauses
from tests.engine.test_pausing import Gate, has_left, has_status
from tests.processes import Journal, an_engine, until

TOP, CHILD, GRANDCHILD = "top", "top/child-0", "top/child-0/grandchild-0"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


class Family:
    """Three levels; the last has a step that runs until it is let go, and one after that."""

    def __init__(self, journal: Journal) -> None:
        self.gate = gate = Gate()

        @workflow
        async def grandchild(ctx: WorkflowContext) -> str:
            first = await ctx.step("first", gate)
            await ctx.step("second", journal.note, "second")
            return first

        @workflow
        async def child(ctx: WorkflowContext) -> str:
            return await ctx.child("grandchild", grandchild)

        @workflow
        async def top(ctx: WorkflowContext) -> str:
            return await ctx.child("child", child)

        self.top = top
        self.workflows = [top, child, grandchild]


async def test_what_runs_below_ends_its_step_and_begins_no_other(
    file: Path, journal: Journal
) -> None:
    family = Family(journal)
    async with an_engine(file, workflows=family.workflows) as (store, engine):
        handle = await engine.start(family.top, execution_id=TOP)
        await family.gate.has_begun.wait()
        assert await engine.pause(TOP, reason="the bank is closed", by="kim")
        for one in (CHILD, GRANDCHILD):
            record = await engine.load(one)
            assert (record.paused_at, record.paused_with) == (None, TOP)
        family.gate.may_end.set()
        assert (await has_left(store, GRANDCHILD)).status is ExecutionStatus.RUNNING
        await asyncio.sleep(0.05)
        assert journal.lines == []
        assert await engine.resume(TOP)
        assert await handle.result() == "through"
        assert journal.lines == ["second"]
        assert family.gate.runs == 1
        # The log of what people do to an execution is of the one that they have named.
        assert await store.load_audit_log(CHILD) == []


async def test_another_process_pauses_and_resumes_what_is_below(
    file: Path, journal: Journal
) -> None:
    family = Family(journal)
    async with (
        an_engine(file, workflows=family.workflows) as (store, engine),
        SqliteCheckpointStore.file(file) as elsewhere,
    ):
        client = Client(elsewhere)
        handle = await engine.start(family.top, execution_id=TOP)
        await family.gate.has_begun.wait()
        await client.pause(TOP)
        executions = engine._working().executions
        await until(lambda: executions[GRANDCHILD].stops_after_steps is not None)
        family.gate.may_end.set()
        await has_left(store, GRANDCHILD)
        assert journal.lines == []
        await client.resume(TOP)
        assert await handle.result() == "through"


async def test_a_worker_goes_on_with_a_pause_whose_caller_died_in_between(
    file: Path, journal: Journal
) -> None:
    family = Family(journal)
    family.gate.may_end.set()

    @workflow
    async def waits(ctx: WorkflowContext) -> str:
        await ctx.wait_signal("go")
        return str(await ctx.child("child", family.workflows[1]))

    @workflow
    async def above(ctx: WorkflowContext) -> str:
        return await ctx.child("waits", waits)

    workflows = [above, waits, *family.workflows]
    async with an_engine(file, workflows=workflows) as (store, engine):
        handle = await engine.start(above, execution_id="e")
        await until(lambda: has_status(store, "e/waits-0", "SUSPENDED"))
        await until(lambda: has_status(store, "e", "SUSPENDED"))
        # As `engine.pause` begins; the rest it would do after this.
        await store.pause_execution("e", by="kim")

        def holder() -> str | None:
            (found,) = store._connection.execute(
                "select paused_with from workflow_executions"
                " where workflow_execution_id = 'e/waits-0'"
            ).fetchone()
            return None if found is None else str(found)

        await until(lambda: holder() == "e")
        await has_left(store, "e/waits-0")
        await engine.send_signal("e/waits-0", "go")
        await asyncio.sleep(0.05)
        assert has_status(store, "e/waits-0", "SUSPENDED")
        await store.resume_execution("e")
        assert await handle.result() == "through"


async def test_a_child_that_is_started_while_its_parent_is_being_paused_waits(file: Path) -> None:
    """The parent is told to leave; what its worker still writes may be the start of a child."""

    @workflow
    async def child(ctx: WorkflowContext) -> str:
        return "done"

    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        handles = [await ctx.start_child(f"c{number}", child) for number in range(60)]
        return [await one.result() for one in handles]

    async with (
        an_engine(file, workflows=[parent, child]) as (store, engine),
        SqliteCheckpointStore.file(file) as elsewhere,
    ):
        handle = await engine.start(parent, execution_id="e")

        def started() -> int:
            (found,) = store._connection.execute(
                "select count(*) from workflow_executions where parent_execution_id = 'e'"
            ).fetchone()
            return int(found)

        await until(lambda: started() > 0)
        await Client(elsewhere).pause("e")
        await has_left(store, "e")
        find = (
            "select workflow_execution_id from workflow_executions where parent_execution_id = 'e'"
            " and status not in ('COMPLETED') and paused_with is not 'e'"
        )
        assert store._connection.execute(find).fetchall() == []
        await engine.resume("e")
        assert await handle.result() == ["done"] * 60


async def test_a_detached_child_goes_on(file: Path, journal: Journal) -> None:
    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go")
        await ctx.step("note", journal.note, "gone on")

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.start_child("child", child, on_parent_end=OnParentEnd.DETACH)
        await ctx.wait_signal("end")

    async with an_engine(file, workflows=[parent, child]) as (store, engine):
        await engine.start(parent, execution_id="e")
        await until(lambda: has_status(store, "e/child-0", "SUSPENDED"))
        await engine.pause("e")
        await engine.send_signal("e/child-0", "go")
        await until(lambda: has_status(store, "e/child-0", "COMPLETED"))
        assert journal.lines == ["gone on"]


async def test_a_cancel_of_what_is_held_counts_once_that_is_resumed(file: Path) -> None:
    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("never")

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.child("child", child)

    async with an_engine(file, workflows=[parent, child]) as (store, engine):
        handle = await engine.start(parent, execution_id="e")
        await until(lambda: has_status(store, "e/child-0", "SUSPENDED"))
        await until(lambda: has_status(store, "e", "SUSPENDED"))
        await engine.pause("e")
        assert await engine.cancel("e/child-0") is Cancellation.ASKED
        await asyncio.sleep(0.05)
        assert has_status(store, "e/child-0", "SUSPENDED")
        assert not await engine.resume("e/child-0")
        # A cancel of what is paused ends the pause, also for what is below.
        assert await engine.cancel("e") is Cancellation.ASKED
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert has_status(store, "e/child-0", "CANCELLED")


async def test_any_order_of_pauses_in_a_tree_leaves_nobody_asleep(
    file: Path, journal: Journal
) -> None:
    """Every pause and every resume of two of three, in every order, by two processes."""
    family = Family(journal)
    family.gate.may_end.set()

    @workflow
    async def waits(ctx: WorkflowContext) -> str:
        await ctx.wait_signal("go")
        return str(await ctx.child("child", family.workflows[1]))

    @workflow
    async def above(ctx: WorkflowContext) -> str:
        return await ctx.child("waits", waits)

    async with (
        an_engine(file, workflows=[above, waits, *family.workflows]) as (store, engine),
        SqliteCheckpointStore.file(file) as elsewhere,
    ):
        clients: list[Client] = [engine, Client(elsewhere)]
        for number, order in enumerate(itertools.permutations((0, 1, 0, 1))):
            top = f"e{number}"
            both = (top, f"{top}/waits-0")
            handle = await engine.start(above, execution_id=top)
            await until(lambda both=both: has_status(store, both[1], "SUSPENDED"))
            paused: set[str] = set()
            for turn, which in enumerate(order):
                one, client = both[which], clients[(number + turn) % 2]
                if one in paused:
                    await client.resume(one)
                    paused.discard(one)
                else:
                    await client.pause(one)
                    paused.add(one)
                record = await engine.load(both[1])
                assert record.paused_with == (top if top in paused else None)
                assert (record.paused_at is not None) == (both[1] in paused)
            await engine.send_signal(both[1], "go")
            assert await handle.result() == "through"


@pytest.mark.parametrize("part", [1, 3])
async def test_a_pause_is_handed_down_in_transactions_of_some(
    file: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go")

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        for number in range(7):
            await ctx.start_child(f"c{number}", child)
        await ctx.wait_signal("end")

    monkeypatch.setattr(pauses, "PART", part)
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[parent, child]) as engine:
            await engine.start(parent, execution_id="e")
            find = "select count(*) from workflow_executions where status = 'SUSPENDED'"
            await until(lambda: store._connection.execute(find).fetchone() == (8,))
        held = "select count(*) from workflow_executions where paused_with = 'e'"
        await store.pause_execution("e", by="kim")
        told = []
        while await store.spread_pauses():
            told.append(store._connection.execute(held).fetchone()[0])
        assert all(0 <= after - before <= part for before, after in itertools.pairwise(told))
        assert store._connection.execute(held).fetchone() == (7,)
        assert store._connection.execute("select * from workflow_spreading").fetchall() == []
