"""A history with a hole stops its execution: nothing runs twice, and no refund is skipped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Cancellation,
    DurableEngine,
    ExecutionBlockedError,
    ExecutionConflictError,
    NonDeterminismError,
    RetryPolicy,
    SqliteCheckpointStore,
    StoreCorruptError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.cli import timeline
from durable_workflow_sqlite.stores import open_reader
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.commands import run_command
from tests.databases import delete_unnoticed
from tests.processes import Journal, an_engine, die, run_until_killed, until

A_MOMENT = timedelta(milliseconds=1)
RETRIED = RetryPolicy.fixed(max_attempts=3, delay=A_MOMENT)

journals: list[Journal] = []


def act(name: str, fails: int = 0) -> str:
    if journals[-1].note(name) <= fails:
        raise ConnectionError(name)
    return name


def undo(name: str) -> None:
    journals[-1].note(f"undo {name}")


@workflow
async def order(ctx: WorkflowContext) -> str:
    await ctx.step("reserve", act, "reserve", compensate=undo)
    await asyncio.gather(
        ctx.step("charge", act, "charge", compensate=undo),
        ctx.branch("side").step("pack", act, "pack", compensate=undo),
    )
    await ctx.step("flaky", act, "flaky", 1, retry=RETRIED)
    await ctx.wait_signal("approved")
    await ctx.sleep("rest", A_MOMENT)
    await ctx.step("ship", act, "ship", compensate=undo)
    return str(await ctx.wait_signal("go"))


DONE = ["reserve", "charge", "pack", "flaky", "flaky", "ship"]
UNDONE = ["undo reserve", "undo charge", "undo pack", "undo ship"]


@pytest.fixture(autouse=True)
def _journal(journal: Journal) -> Iterator[None]:
    journals.append(journal)
    yield
    journals.pop()


async def until_it_waits(store: SqliteCheckpointStore) -> None:
    await until(lambda: store.load_open_waits("one", "go"))


async def begin(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(order, execution_id="one")
        await handle.signal("approved")
        await until_it_waits(store)


async def go_on(file: Path, *, cancel: bool = False, flow: Any = order) -> object:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as client:
        if cancel:
            await client.cancel("one")
        elif await store.load_open_waits("one", "go"):
            await client.send_signal("one", "go", "went")
    async with an_engine(file, workflows=[flow]) as (_, engine):
        # A signal wakes who waits for it; what has lost the row of its wait is woken by hand.
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("pragma busy_timeout = 30000")
            connection.execute(
                "update workflow_executions set available_at = created_at where status in"
                " ('SUSPENDED', 'RUNNING', 'COMPENSATING') and available_at is null and not exists"
                " (select 1 from workflow_claims)"
            )
        return await asyncio.wait_for(engine.handle("one").result(), 30)


@contextmanager
def edited(file: Path, statement: str) -> Generator[None]:
    """The steps as somebody left them, in a file without the trigger that blocks the execution.

    Afterwards they are put back as they were.
    """
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        before = connection.execute("select * from step_checkpoints").fetchall()
        assert delete_unnoticed(connection, statement) > 0
        yield
        connection.execute("delete from step_checkpoints")
        marks = ", ".join("?" * len(before[0]))
        connection.executemany(f"insert into step_checkpoints values ({marks})", before)
        (trouble,) = connection.execute("select trouble from workflow_executions").fetchone()
        assert trouble is not None


DELETED = {
    "step_name = 'reserve'": r"lacks event 1, maybe the outcome of step 'reserve' \(index 0\)",
    "step_name = 'charge'": r"lacks event \d, maybe the outcome of step 'charge' \(index 1\)",
    "step_name = 'pack'": r"lacks event \d, maybe the outcome of step 'pack' \(index 0 of branch",
    "step_name in ('charge', 'pack')": r"lacks events 2 to 3, maybe the outcome of step",
    "step_name = 'flaky'": r"lacks event 4, maybe the outcome of step 'flaky'",
    "step_name = 'flaky' and attempt = 1": r"'flaky' \(index 2, attempt 2\) .* attempt 1 is not",
    "step_name = 'flaky' and attempt = 2": r"lacks event 4, maybe the outcome of step 'flaky'",
    "step_name = 'approved'": r"lacks event 5, maybe the outcome of signal 'approved'",
    "step_name = 'rest'": r"lacks event 6, maybe the outcome of sleep 'rest'",
    "step_name not in ('ship', 'go')": r"lacks events 1 to 6, maybe the outcome of step 'reserve'",
}


@pytest.mark.few(7)
@pytest.mark.parametrize("cancel", [False, True], ids=["goes on", "is cancelled"])
@pytest.mark.parametrize("rows", DELETED)
def test_a_deleted_row_stops_the_execution_and_is_named(
    file: Path, journal: Journal, rows: str, cancel: bool
) -> None:
    asyncio.run(begin(file))
    assert sorted(journal.lines) == sorted(DONE)
    with edited(file, f"delete from step_checkpoints where {rows}"):
        with pytest.raises(StoreCorruptError, match=DELETED[rows]) as caught:
            asyncio.run(go_on(file, cancel=cancel))
        assert caught.value.workflow_execution_id == "one"
        assert sorted(journal.lines) == sorted(DONE)  # nothing ran again, nothing was undone
    check_it_ends_well(file, journal, cancel=cancel)


def check_it_ends_well(file: Path, journal: Journal, *, cancel: bool) -> None:
    if cancel:
        with pytest.raises(WorkflowCancelledError):
            asyncio.run(go_on(file, cancel=True))
        assert sorted(journal.lines[len(DONE) :]) == sorted(UNDONE)
    else:
        assert asyncio.run(go_on(file)) == "went"
        assert sorted(journal.lines) == sorted(DONE)


EDITED = {
    "delete from step_checkpoints where step_name = 'ship'": r"go' recorded .*"
    r" Nothing is recorded of step 'ship' \(index 5\): its row may have been deleted",
    "update step_checkpoints set step_name = 'charm' where step_name = 'charge'": r"'charm' rec",
    "update step_checkpoints set step_index = 9 where step_name = 'charge'": r"'charge'",
    "update step_checkpoints set branch = 'other' where step_name = 'charge'": r"'charge'",
    "update step_checkpoints set kind = 'SLEEP' where step_name = 'charge'": r"sleep 'charge'",
    "update step_checkpoints set step_name = 'x' where step_name = 'flaky' and attempt = 1": r"'x'",
    "update step_checkpoints set attempt = 3 where step_name = 'flaky' and attempt = 2": r"'flaky'",
    "update step_checkpoints set attempt = 0, step_name = 'charge:compensate', event = null"
    " where step_name = 'charge'": r"'charge:compensate' .* the step that it undoes is not",
}


@pytest.mark.few(6)
@pytest.mark.parametrize("cancel", [False, True], ids=["goes on", "is cancelled"])
@pytest.mark.parametrize("edit", EDITED)
def test_an_edited_row_stops_it_likewise(
    file: Path, journal: Journal, edit: str, cancel: bool
) -> None:
    asyncio.run(begin(file))
    with edited(file, edit):
        with pytest.raises((StoreCorruptError, NonDeterminismError), match=EDITED[edit]):
            asyncio.run(go_on(file, cancel=cancel))
        assert sorted(journal.lines) == sorted(DONE)
    check_it_ends_well(file, journal, cancel=cancel)


def test_a_number_that_was_left_out_is_no_gap(file: Path, journal: Journal) -> None:
    asyncio.run(begin(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("update step_checkpoints set event = event + 2 where event > 2")
        connection.execute("update step_checkpoints set event = event + 1")
    assert asyncio.run(go_on(file)) == "went"
    assert sorted(journal.lines) == sorted(DONE)


@pytest.mark.parametrize("kind", ["transaction", "idempotent step", "child"])
def test_a_number_of_what_leaves_no_row_is_no_gap(file: Path, journal: Journal, kind: str) -> None:
    """The store refused its outcome, and took that of a step beside it; then the worker died."""

    @workflow
    async def packing(ctx: WorkflowContext) -> None:
        journal.note("other")

    @workflow
    async def side_by_side(ctx: WorkflowContext) -> None:
        async def other() -> object:
            if kind == "transaction":
                return await ctx.transaction("other", lambda _: act("other"))
            if kind == "child":
                return await ctx.start_child("other", packing)
            return await ctx.step("other", act, "other", idempotent=True)

        async def side() -> None:
            branch = ctx.branch("side")
            await branch.step("pack", act, "pack")
            await branch.wait_signal("go")

        await asyncio.gather(other(), side())

    async def begin_it() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[side_by_side, packing]) as engine:
                await engine.start(side_by_side, execution_id="one")
                await until_it_waits(store)

    asyncio.run(begin_it())
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        # As the file is when its outcome was refused with number 1, and the worker died.
        what = "workflow_execution_id = 'one' and step_name not in ('pack', 'go')"
        assert delete_unnoticed(connection, f"delete from step_checkpoints where {what}") == 1
        connection.execute("update step_checkpoints set event = 2 where step_name = 'pack'")
    assert asyncio.run(go_on(file, flow=side_by_side)) is None
    again = 0 if kind == "child" else 1  # the child is there already
    assert sorted(journal.lines) == ["other"] * (1 + again) + ["pack"]


def test_a_failed_execution_that_is_retried_has_no_gap(file: Path, journal: Journal) -> None:
    @workflow
    async def side_by_side(ctx: WorkflowContext) -> list[str]:
        async def after(first: str, then: str, fails: int) -> str:
            await ctx.step(first, act, first)
            return await ctx.step(then, act, then, fails)

        results = await asyncio.gather(
            ctx.branch("a").step("bad", act, "bad", 1),
            after("one", "two", 0),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [str(result) for result in results]

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[side_by_side]) as engine:
                with pytest.raises(WorkflowFailedError):
                    await engine.run(side_by_side, execution_id="one")
                await engine.retry("one")
                result = await asyncio.wait_for(engine.handle("one").result(), 30)
                assert result == ["bad", "two"]

    asyncio.run(main())
    assert sorted(journal.lines) == ["bad", "bad", "one", "two"]


# While it is undone


@workflow
async def trip(ctx: WorkflowContext) -> None:
    await ctx.step("flight", act, "flight", compensate=undo_and_die)
    await ctx.step("hotel", act, "hotel", compensate=undo)
    await ctx.step("car", act, "car", compensate=undo_and_die)
    await ctx.step("pay", act, "pay", 99)


def undo_and_die(name: str) -> None:
    if journals[-1].note(f"undo {name}") == 1 and name == "car":
        die()


async def fail_and_die(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[trip]) as engine:
            await engine.run(trip, execution_id="one")


LOST = {
    "delete from step_checkpoints where step_name = 'hotel'": r"lacks event 2, .* step 'hotel'",
    "delete from step_checkpoints where step_name = 'flight'": r"lacks event 1, .* step 'flight'",
    "delete from step_checkpoints where step_name = 'car'": r"'car:compensate' .* it undoes is not",
    "delete from step_checkpoints where step_name = 'pay'": r"ended after event 4, .* is event 3",
    "update step_checkpoints set compensate_ref = null where step_name = 'hotel'": r"'hotel' .*"
    r"compensate_ref was deleted .* set its compensate_ref to 'tests.*test_deleted_rows:undo'",
    "update step_checkpoints set step_name = 'x:compensate' where attempt = 0": r"undoes what is",
}


@pytest.mark.few(2)
@pytest.mark.parametrize("edit", LOST)
def test_no_refund_is_skipped_for_a_row_that_is_gone(
    file: Path, journal: Journal, edit: str
) -> None:
    run_until_killed(lambda: fail_and_die(file))
    before = ["flight", "hotel", "car", "pay", "undo car"]
    assert journal.lines == before
    with edited(file, edit):
        with pytest.raises(StoreCorruptError, match=LOST[edit]):
            asyncio.run(go_on(file, flow=trip))
        assert journal.lines == before
    with pytest.raises(WorkflowFailedError):
        asyncio.run(go_on(file, flow=trip))
    assert journal.lines == [*before, "undo car", "undo hotel", "undo flight"]


def test_a_failed_one_whose_row_is_gone_is_not_run_again(file: Path, journal: Journal) -> None:
    @workflow
    async def failing(ctx: WorkflowContext) -> str:
        await ctx.step("charge", act, "charge")
        await ctx.step("ship", act, "ship")
        return await ctx.step("tell", act, "tell", 1)

    async def fail() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[failing]) as engine:
                with pytest.raises(WorkflowFailedError):
                    await engine.run(failing, execution_id="one")

    async def retry() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[failing]) as engine:
                await engine.retry("one")
                with pytest.raises(StoreCorruptError, match=r"lacks event 1, .* step 'charge'"):
                    await asyncio.wait_for(engine.handle("one").result(), 30)

    asyncio.run(fail())
    with edited(file, "delete from step_checkpoints where step_name = 'charge'"):
        asyncio.run(retry())
        assert journal.lines == ["charge", "ship", "tell"]


# As the trigger sees it


LATE = {
    "step_name = 'ship'": r"step 'ship' \(index 5, attempt 1\)",  # the last one that is over
    "step_name = 'go'": r"signal 'go' \(index 6, attempt 1\)",  # an open wait
    "step_name = 'pack'": r"step 'pack' \(index 0 of branch 'side', attempt 1\)",
    "true": r"step '\w+' \(index 0",
}


@contextmanager
def without(file: Path, rows: str) -> Generator[None]:
    """Some rows deleted by hand, and afterwards put back by hand."""
    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        before = dba.execute(f"select * from step_checkpoints where {rows}").fetchall()
        dba.execute(f"delete from step_checkpoints where {rows}")
        yield
        marks = ", ".join("?" * len(before[0]))
        dba.executemany(f"insert into step_checkpoints values ({marks})", before)


async def unblock(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        assert await engine.unblock("one")


async def refuse(file: Path, rows: str) -> None:
    """Whatever would let it go on without the rows says which they are, and does nothing."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        before = await store.load_execution("one")
        for act in (
            engine.retry("one"),
            engine.unblock("one"),
            engine.resolve("one", "reserve", "x"),
        ):
            with pytest.raises(ExecutionConflictError, match=f"still missing: .*{rows}.*Restore"):
                await act
        assert await store.load_execution("one") == before
        assert [one.act for one in await store.load_audit_log("one")] in ([], ["cancel"])


def test_who_lets_it_go_on_without_the_rows_is_kept_and_told(file: Path, journal: Journal) -> None:
    asyncio.run(begin(file))
    missing = "step 'ship' (index 5, attempt 1)"

    async def unblock_anyway() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            assert await engine.unblock("one", without_rows=True, by="kim")
            (entry,) = await store.load_audit_log("one")
            assert (entry.act, entry.actor) == ("unblock", "kim")
            assert missing in str(json.loads(entry.details or "")["blocked"])
            assert json.loads(entry.details or "")["missing"] == missing

    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        dba.execute("delete from step_checkpoints where step_name = 'ship'")
    asyncio.run(unblock_anyway())
    words = f"unblocked although rows of their steps were missing: one ({missing})"
    assert check_up(file)["unblocked"] == words
    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        dba.execute("update workflow_executions set status = 'CANCELLED'")
    assert "unblocked" not in check_up(file)


@pytest.mark.parametrize("cancel", [False, True], ids=["goes on", "is cancelled"])
def test_without_a_row_before_an_open_wait_it_goes_on_from_that_wait(
    file: Path, journal: Journal, cancel: bool
) -> None:
    """What a person is told at each point can be done."""
    asyncio.run(begin(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        dba.execute("delete from step_checkpoints where step_name = 'ship'")

    async def let_it_go_on() -> None:
        async with an_engine(file) as (store, client):
            # Nobody has agreed yet that the step runs again.
            with pytest.raises(ExecutionConflictError, match=r"missing: step 'ship'.*without-rows"):
                await client.retry("one", from_step="go")
            assert await client.unblock("one", without_rows=True)
        async with an_engine(file, workflows=[order]) as (_, engine):
            # It is replayed at once, and not when a signal comes.
            with pytest.raises(NonDeterminismError, match=r"'ship'.*deleted.*retry --from.*first"):
                await asyncio.wait_for(engine.handle("one").result(), 30)
        async with an_engine(file) as (store, client):
            with pytest.raises(ExecutionConflictError, match=r"not undone.*restore missing rows"):
                await client.retry("one", from_step="charge")
            await client.retry("one", from_step="go")
            assert await store.load_open_waits("one", "go") == []
            if cancel:
                await client.cancel("one")
            else:
                await client.send_signal("one", "go", "went")

    asyncio.run(let_it_go_on())
    if cancel:
        with pytest.raises(WorkflowCancelledError):
            asyncio.run(go_on(file))
        assert sorted(journal.lines) == sorted([*DONE, *UNDONE[:3]])
    else:
        assert asyncio.run(go_on(file)) == "went"
        assert sorted(journal.lines) == sorted([*DONE, "ship"])


async def is_in_trouble(store: SqliteCheckpointStore) -> bool:
    """Also in the file, and not about to be tried again."""
    for _ in range(20):
        found = await store.load_execution("one")
        if found is None or found.trouble is None:
            return False
        await asyncio.sleep(0.01)
    return True


def test_without_the_first_row_what_a_person_undoes_lets_it_begin_again_or_end(
    file: Path, journal: Journal
) -> None:
    asyncio.run(begin(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        dba.execute("delete from step_checkpoints where step_name = 'reserve'")

    async def until_in_trouble(engine: DurableEngine) -> None:
        with pytest.raises(StoreCorruptError, match=r"lacks event 1.*`retry --from` the first"):
            await asyncio.wait_for(engine.handle("one").result(), 30)

    async def main() -> None:
        async with an_engine(file, workflows=[order]) as (store, engine):
            assert await engine.unblock("one", without_rows=True)
            await until_in_trouble(engine)
            # Two steps run at once: either may be the first one after the gap.
            (next_one,) = (one for one in await store.load_checkpoints("one") if one.event == 2)
            for step in ("charge", "pack", "ship"):
                with pytest.raises(ExecutionConflictError, match=rf"'{step}'.*acknowledge --step"):
                    await engine.retry("one", from_step=next_one.step_name)
                assert await engine.acknowledge("one", step=step) == 1
                await until_in_trouble(engine)
                with pytest.raises(ExecutionConflictError, match="has undone"):
                    await engine.acknowledge("one", step=step)
            await until(partial(is_in_trouble, store))
            # What needs no undoing has nothing to acknowledge.
            with pytest.raises(ExecutionConflictError, match="nothing to acknowledge"):
                await engine.acknowledge("one", step="flaky")
        async with an_engine(file) as (store, client):
            first, second = sorted(
                (one for one in await store.load_checkpoints("one") if one.event in (2, 3)),
                key=lambda one: one.event or 0,
            )
            with pytest.raises(ExecutionConflictError, match="event 1 before it is missing"):
                await client.retry("one", from_step=second.step_name)
            await client.retry("one", from_step=first.step_name)
            assert await store.load_checkpoints("one") == []
            assert await client.cancel("one") is Cancellation.ENDED

    asyncio.run(main())
    assert sorted(journal.lines) == sorted(DONE)
    assert "unblocked" not in check_up(file)


def test_no_step_before_the_first_one_is_offered(file: Path, journal: Journal) -> None:
    asyncio.run(begin(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        for name, is_offered in (("ship", True), ("reserve", False)):
            dba.execute("delete from step_checkpoints where step_name = ?", (name,))
            refusal = run_command("unblock", "--yes", file, "one", env=dict(os.environ)).stderr
            with open_reader(file) as reader:
                details = reader.execution("one")
            assert details is not None
            for text in (refusal, timeline.hint(details, str(file)) or ""):
                assert ("a step before them" in text) == is_offered, text
                assert "--without-rows" in text


def test_a_cancel_says_that_trouble_about_the_rows_comes_first(
    file: Path, journal: Journal
) -> None:
    asyncio.run(begin(file))
    for trouble, is_first in (("StoreCorruptError: lacks event 1", True), (None, False)):
        with closing(sqlite3.connect(file, isolation_level=None)) as dba:
            dba.execute("delete from workflow_signals")
            dba.execute("update workflow_executions set trouble = ?", (trouble,))
        said = run_command("cancel", "--yes", file, "one", env=dict(os.environ)).stdout
        assert "asked one to cancel" in said
        assert ("shows no trouble, a worker undoes" in said) == is_first, said


def check_up(file: Path) -> dict[str, str]:
    with open_reader(file) as reader:
        return {one.check: one.message for one in reader.check_up(datetime.now(UTC))}


def test_all_rows_that_are_named_must_be_back(file: Path, journal: Journal) -> None:
    asyncio.run(begin(file))
    with without(file, "step_name = 'charge'"):
        with without(file, "step_name in ('ship', 'go', 'pack')"):
            asyncio.run(refuse(file, r"'charge'.*'pack' \(index 0 of branch 'side', attempt 1\).*"))
        # A retry lets it go on as soon as it is whole, and not before.
        asyncio.run(refuse(file, r"step 'charge' \(index 1, attempt 1\)\."))
    asyncio.run(retry(file))
    assert asyncio.run(go_on(file)) == "went"
    assert sorted(journal.lines) == sorted(DONE)


async def retry(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.retry("one")


def test_of_many_rows_some_are_named_and_a_death_does_not_hide_them(file: Path) -> None:
    asyncio.run(begin(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        dba.execute("update workflow_executions set blocked_reason = 'its worker died'")
        dba.execute(
            "with recursive n (i) as (select 100 union all select i + 1 from n where i < 200)"
            " insert into step_checkpoints (workflow_execution_id, step_index, step_name, status)"
            " select 'one', i, 'many', 'INTENT' from n"
        )
        dba.execute("delete from step_checkpoints where step_name = 'many'")
        ((reason,),) = dba.execute("select blocked_reason from workflow_executions").fetchall()
    assert reason.startswith("rows of step_checkpoints were deleted by hand: step 'many' (index 1")
    assert reason.endswith("), others")
    assert len(reason) < 1100
    asyncio.run(refuse(file, "'many'.*, others"))


@pytest.mark.few(3)
@pytest.mark.parametrize("cancel", [False, True], ids=["goes on", "is cancelled"])
@pytest.mark.parametrize("rows", LATE)
def test_a_row_deleted_by_hand_blocks_the_execution_until_it_is_restored(
    file: Path, journal: Journal, rows: str, cancel: bool
) -> None:
    asyncio.run(begin(file))
    with without(file, rows):
        blocked = f"were deleted by hand: .*{LATE[rows]}.* Restore"
        with pytest.raises(ExecutionBlockedError, match=blocked):
            asyncio.run(go_on(file, cancel=cancel))
        found = check_up(file)["blocked"]
        assert re.search(rf"one \(rows of .* deleted by hand: .*{LATE[rows]}", found)
        asyncio.run(refuse(file, LATE[rows]))
    assert sorted(journal.lines) == sorted(DONE)
    asyncio.run(unblock(file))
    if cancel:
        with pytest.raises(WorkflowCancelledError):
            asyncio.run(go_on(file))
        assert sorted(journal.lines[len(DONE) :]) == sorted(UNDONE)
    else:
        assert asyncio.run(go_on(file)) == "went"
        assert sorted(journal.lines) == sorted(DONE)


def test_a_compensation_whose_row_is_deleted_does_not_run_again(
    file: Path, journal: Journal
) -> None:
    run_until_killed(lambda: fail_and_die(file))
    before = list(journal.lines)
    with without(file, "attempt = 0"):
        with pytest.raises(ExecutionBlockedError, match=r"step 'car:compensate' \(index 2, attem"):
            asyncio.run(go_on(file, flow=trip))
        assert journal.lines == before


def test_a_worker_that_has_the_execution_does_not_take_the_mark_away(
    file: Path, journal: Journal
) -> None:
    """It knows all that it has recorded, and may come to the end; whoever comes after it not."""

    async def reason(store: SqliteCheckpointStore) -> str | None:
        found = await loaded(store, "one")
        return found.blocked_reason

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order]) as engine:
                handle = await engine.start(order, execution_id="one")
                await until(lambda: store.load_open_waits("one", "approved"))
                with without(file, "step_name = 'flaky' and attempt = 2"):
                    await handle.signal("approved")
                    await until_it_waits(store)  # it has been RUNNING and SUSPENDED since
                    assert "'flaky'" in (await reason(store) or "")
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order]) as engine:
                with pytest.raises(ExecutionBlockedError, match="'flaky'"):
                    await engine.handle("one").result()
                await engine.unblock("one")
                await engine.send_signal("one", "go", "went")
                assert await asyncio.wait_for(engine.handle("one").result(), 30) == "went"
            assert await reason(store) is None

    asyncio.run(main())
    assert sorted(journal.lines) == sorted(DONE)


@pytest.mark.parametrize("cancel", [False, True], ids=["fails", "is cancelled"])
def test_a_worker_that_has_the_execution_undoes_nothing_without_a_row(
    file: Path, journal: Journal, cancel: bool
) -> None:
    """What it knows of the deleted step is not enough: no other record says that it was undone."""

    @workflow
    async def booking(ctx: WorkflowContext) -> None:
        await ctx.step("hotel", act, "hotel", compensate=undo)
        await ctx.step("car", act, "car", compensate=undo)
        await ctx.wait_signal("approved")
        await ctx.step("pay", act, "pay", 99)

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[booking]) as engine:
                handle = await engine.start(booking, execution_id="one")
                await until(lambda: store.load_open_waits("one", "approved"))
                with without(file, "step_name = 'hotel'"):
                    await (handle.cancel() if cancel else handle.signal("approved"))
                    with pytest.raises(StoreCorruptError, match=r"'hotel'.* is not recorded any"):
                        await asyncio.wait_for(handle.result(), 30)
                    found = await loaded(store, "one")
                    assert "is not recorded any more" in (found.trouble or "")
            async with DurableEngine(store, workflows=[booking]) as engine:
                await engine.unblock("one")
                with pytest.raises((WorkflowFailedError, WorkflowCancelledError)):
                    await asyncio.wait_for(engine.handle("one").result(), 30)

    asyncio.run(main())
    done = ["hotel", "car"] if cancel else ["hotel", "car", "pay"]
    assert journal.lines == [*done, "undo car", "undo hotel"]


def test_what_dies_with_the_execution_stays_blocked(file: Path, journal: Journal) -> None:
    async def delete_and_die() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            async with DurableEngine(store, workflows=[order]) as engine:
                await engine.start(order, execution_id="one")
                await until(lambda: store.load_open_waits("one", "approved"))
                with closing(sqlite3.connect(file, isolation_level=None)) as dba:
                    dba.execute("delete from step_checkpoints where step_name = 'flaky'")
                    dba.execute("update workflow_executions set status = 'RUNNING'")
                die()

    run_until_killed(delete_and_die)
    with pytest.raises(ExecutionBlockedError, match="step 'flaky'"):
        asyncio.run(go_on(file))


def test_an_execution_that_the_library_deletes_leaves_no_mark(file: Path) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            assert await store.delete_execution("one")
            await engine.start(order, execution_id="one")
            found = await loaded(store, "one")
            assert found.blocked_reason is None

    asyncio.run(begin(file))
    asyncio.run(main())
