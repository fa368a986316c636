"""Forks and edits: another execution with the first records of one, and other results."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ErrorClassNotFoundError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    ExecutionStatus,
    NonDeterminismError,
    RetryPolicy,
    SerializationError,
    SqliteCheckpointStore,
    StepStatus,
    StepTimeoutError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.records import who_ran
from tests.processes import until

HOUR, MOMENT = timedelta(hours=1), timedelta(milliseconds=1)

done: list[str] = []
"""What the actions of a test have done, in order."""


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


def act(what: str, value: Any = None) -> Callable[[], Any]:
    """An action that notes what it does."""

    def do() -> Any:
        done.append(what)
        return value

    return do


def undo(what: Any) -> None:
    done.append(f"undo {what}")


async def noted(store: Any, execution_id: str, number: int = -1) -> dict[str, Any]:
    entry = (await store.load_audit_log(execution_id))[number]
    return msgspec.json.decode(entry.details or "{}", type=dict[str, Any])


async def contents(store: Any, execution_id: str) -> list[object]:
    return [
        await store.take_execution(execution_id),
        await store.load_signals(execution_id),
        await store.load_audit_log(execution_id),
        await store.load_execution("new"),
    ]


async def refused(
    store: Any,
    act: Callable[[], Awaitable[object]],
    *words: str,
    of: str = "one",
    error: type[Exception] = ExecutionConflictError,
) -> None:
    """What cannot be done is refused in words, and nothing is written."""
    before = await contents(store, of)
    with pytest.raises(error) as caught:
        await act()
    for word in words:
        assert word in str(caught.value)
    assert await contents(store, of) == before


@workflow
async def order(ctx: WorkflowContext, item: str) -> list[Any]:
    """Three steps, of which the second fails for some items."""
    price = await ctx.step("price", price_of, item)
    paid = await ctx.step("charge", charge, price, compensate=undo)
    sent = await ctx.step("send", act(f"send {item}", f"sent {item}"))
    return [price, paid, sent]


def price_of(item: str) -> int:
    done.append("price")
    return len(item)


def charge(price: int) -> str:
    done.append(f"charge {price}")
    if price == 13:
        raise ValueError("an unlucky price")
    return f"paid {price}"


# What a fork begins with


async def test_a_fork_has_the_results_before_a_step_and_runs_the_rest() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            assert await engine.run(order, "pen", execution_id="one", tags={"for": "kim"}) == [
                3,
                "paid 3",
                "sent pen",
            ]
            before = await store.take_execution("one")
            done.clear()
            fork = await engine.fork("one", before="charge", new_id="new", by="kim")
            assert fork.execution_id == "new"
            assert await fork.result() == [3, "paid 3", "sent pen"]
            assert done == ["charge 3", "send pen"], "the price was not asked for again"
            assert await store.take_execution("one") == before, "it is not changed"
            record = await store.load_execution("new")
            assert record is not None
            assert (record.forked_from, record.forked_before) == ("one", "step 'charge' (index 1)")
            assert await store.load_tags("new") == {"for": "kim"}
            assert await noted(store, "new") == {"of": "one", "before": "step 'charge' (index 1)"}
            assert await noted(store, "one") == {"as": "new", "before": "step 'charge' (index 1)"}
            (entry,) = await store.load_audit_log("one")
            assert (entry.act, entry.actor) == ("fork", "kim")
            copied, *own = await store.load_checkpoints("new")
            assert who_ran(copied.input_data) == "one"
            assert {who_ran(one.input_data) for one in own} == {None}


async def test_an_edited_result_is_what_the_workflow_gets() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            await engine.run(order, "pen", execution_id="one")
            done.clear()
            fork = await engine.fork("one", before="charge", edit={"price": 42}, new_id="new")
            assert await fork.result() == [42, "paid 42", "sent pen"]
            assert done == ["charge 42", "send pen"]
            assert (await noted(store, "new"))["edit"] == (await noted(store, "one"))["edit"]
            assert (await noted(store, "new"))["edit"] == [
                {"step": "step 'price' (index 0)", "was": 3, "value": 42}
            ]
            last = await engine.fork("one", before="send", edit={("", "charge"): "a gift"})
            assert await last.result() == [3, "a gift", "sent pen"]


async def test_without_a_step_it_has_everything_that_completed() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            await engine.run(order, "pen", execution_id="one")
            done.clear()
            fork = await engine.fork("one")
            assert await fork.result() == [3, "paid 3", "sent pen"]
            assert done == []
            twice = await engine.fork(fork.execution_id, edit={"send": "lost"})
            assert await twice.result() == [3, "paid 3", "lost"]
            assert done == []
            copied = await store.load_checkpoints(twice.execution_id)
            assert {who_ran(one.input_data) for one in copied} == {"one"}, "the first has run them"


async def test_of_a_failed_one_it_begins_before_the_step_that_failed_it() -> None:
    @workflow
    async def buy(ctx: WorkflowContext) -> list[Any]:
        price = await ctx.step("price", act("price", 13))
        return [price, await ctx.step("charge", charge, price)]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[buy]) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(buy, execution_id="one")
            done.clear()
            fork = await engine.fork("one", edit={"price": 12})
            assert await fork.result() == [12, "paid 12"]
            assert done == ["charge 12"]
            given = await engine.fork("one", edit={"charge": "by hand"})
            assert await given.result() == [13, "by hand"]
            with pytest.raises(WorkflowFailedError):
                await (await engine.fork("one")).result()


async def test_what_runs_at_once_is_there_as_far_as_it_was_over() -> None:
    free = asyncio.Event()

    async def slow() -> str:
        done.append("slow")
        await free.wait()
        return "slow"

    @workflow
    async def both(ctx: WorkflowContext) -> list[str]:
        one = asyncio.create_task(ctx.step("slow", slow))
        two = await ctx.step("quick", act("quick", "quick"))
        three = await ctx.step("last", act("last", "last"))
        return [await one, two, three]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[both]) as engine:
            running = await engine.start(both, execution_id="one")
            await until(lambda: len(done) == 3)
            await until(lambda: _is_recorded(store, "one", "last"))
            fork = await engine.fork("one", before="slow")
            other = await engine.fork("one", before="last")
            free.set()
            for one in (running, fork, other):
                assert await one.result() == ["slow", "quick", "last"]
            assert sorted(done) == sorted([*["slow"] * 3, "quick", "last", "last"])


async def _is_recorded(store: Any, execution_id: str, name: str) -> bool:
    found = await store.load_checkpoints(execution_id)
    return any(one.step_name == name and one.event is not None for one in found)


async def test_chance_and_time_before_the_point_are_the_same_and_behind_it_they_are_not() -> None:
    @workflow
    async def dice(ctx: WorkflowContext) -> list[Any]:
        begun, one = ctx.now(), ctx.random()
        await ctx.step("first" if one < 0.5 else "other", act("first"))
        await asyncio.sleep(0.001)
        two, at = ctx.uuid4(), ctx.now()
        await ctx.step("second", act("second"))
        three = ctx.uuid4()
        await ctx.step("third", act("third"))
        return [begun.isoformat(), one, at.isoformat(), str(two), str(three), str(ctx.uuid4())]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[dice]) as engine:
            for number in range(8):
                name = f"dice {number}"
                source = await engine.run(dice, execution_id=name)
                third = await engine.fork(name, before="third")
                rolled = await third.result()
                assert rolled[:4] == source[:4]
                assert rolled[4] != source[4], "what is asked for behind the point is its own"
                again = await engine.fork(third.execution_id, before="third", edit={"second": 1})
                assert (await again.result())[:4] == source[:4], "also in a fork of a fork"


async def test_sets_of_tasks_have_the_order_that_they_had() -> None:
    @workflow
    async def race(ctx: WorkflowContext) -> list[str]:
        tasks = [asyncio.create_task(_named(ctx, f"s{one}")) for one in range(9)]
        over, _ = await asyncio.wait(tasks)
        names = [one.result() for one in over]
        for name in names:
            await ctx.step(f"then {name}", act(name))
        return names

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[race]) as engine:
            for number in range(4):
                source = await engine.run(race, execution_id=f"race {number}")
                done.clear()
                fork = await engine.fork(f"race {number}", before=f"then {source[-1]}")
                assert await fork.result() == source
                assert done == [source[-1]]


async def _named(ctx: WorkflowContext, name: str) -> str:
    await ctx.step(name, act(name))
    return name


async def test_patches_before_the_point_are_passed_and_those_behind_it_are_asked_again() -> None:
    @workflow
    async def patched(ctx: WorkflowContext) -> list[bool]:
        one = ctx.patched("one")
        await ctx.step("first", act("first"))
        await ctx.step("second", act("second"))
        two = ctx.patched("two")
        await ctx.step("third", act("third"))
        return [one, two]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[patched]) as engine:
            await engine.run(patched, execution_id="one")
            fork = await engine.fork("one", before="second", new_id="new")
            seen = await store.take_execution("new")
            assert seen is not None
            assert await fork.result() == [True, True]
            taken = await store.take_execution("new")
            assert taken is not None
            assert {one.patch_name for one in taken.patches} == {"one", "two"}


async def test_it_can_have_another_version() -> None:
    @workflow(name="tax", version=1)
    async def old(ctx: WorkflowContext) -> str:
        await ctx.step("net", act("net", 1))
        return "old"

    @workflow(name="tax", version=2)
    async def new(ctx: WorkflowContext) -> str:
        await ctx.step("net", act("net", 1))
        await ctx.step("tax", act("tax", 1))
        return "new"

    @workflow(name="tax", version=3)
    async def other(ctx: WorkflowContext) -> str:
        return str(await ctx.step("gross", act("gross", 1)))

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[old, new, other]) as engine:
            assert await engine.run(old, execution_id="one") == "old"
            done.clear()
            fork = await engine.fork("one", version=2)
            assert await fork.result() == "new"
            assert done == ["tax"]
            assert (await noted(store, fork.execution_id))["version"] == 2
            assert await (await engine.fork("one")).result() == "old"
            await refused(
                store, lambda: engine.fork("one", version=3, new_id="new"), "would stop", "'gross'"
            )
            with pytest.raises(ValueError, match="no version 4"):
                await engine.fork("one", version=4)


# Waits, signals, timers


async def test_open_waits_keep_their_deadlines_and_signals_that_had_come_are_there() -> None:
    @workflow
    async def waits(ctx: WorkflowContext) -> list[Any]:
        nap = asyncio.create_task(ctx.sleep("nap", HOUR))
        first = await ctx.wait_signal("go", type=str)
        await ctx.step("between", act("between"))
        second = await ctx.wait_signal("go", type=str)
        third = await ctx.wait_signal("stop", type=str, timeout=HOUR)
        nap.cancel()
        return [first, second, third]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[waits]) as engine:
            await engine.start(waits, execution_id="one")
            await engine.send_signal("one", "go", "a", key="a")
            await engine.send_signal("one", "stop", "early", key="x")
            await until(lambda: _is_recorded(store, "one", "between"))
            await until(lambda: store.load_open_waits("one", "go"))  # what comes now was not there
            await engine.send_signal("one", "go", "b")
            await engine.handle("one").result()
            fork = await engine.fork("one", before="between", new_id="new")
            await until(lambda: _is_recorded(store, "new", "between"))
            naps = [
                next(
                    two.due_at
                    for two in await store.load_checkpoints(one)
                    if two.step_name == "nap"
                )
                for one in ("one", "new")
            ]
            assert naps[0] == naps[1]
            await engine.send_signal("new", "go", "c")
            assert await fork.result() == ["a", "c", "early"], "what had not come is not there"
            assert await engine.handle("one").result() == ["a", "b", "early"]
            second = await engine.fork("one", before=("", "go", 3), edit={("", "go", 1): "edited"})
            await engine.send_signal(second.execution_id, "go", "d")
            assert await second.result() == ["edited", "d", "early"]


async def test_a_fork_of_one_that_waits_waits_by_itself() -> None:
    @workflow
    async def waits(ctx: WorkflowContext) -> Any:
        await ctx.step("first", act("first"))
        return await ctx.wait_signal("go")

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[waits]) as engine:
            running = await engine.start(waits, execution_id="one")
            await until(lambda: store.load_open_waits("one", "go"))
            fork = await engine.fork("one", new_id="new")
            await until(lambda: _is_claimed(store, "new"))
            await engine.send_signal("new", "go", 1)
            assert await fork.result() == 1
            assert await running.status() is not ExecutionStatus.COMPLETED
            await engine.send_signal("one", "go", 2)
            assert await running.result() == 2
            assert done == ["first"]


async def _is_claimed(store: Any, execution_id: str) -> bool:
    found = await store.load_execution(execution_id)
    return found is not None and found.started_at is not None


async def test_timers_of_asyncio_before_the_point_have_fired() -> None:
    @workflow
    async def sleepy(ctx: WorkflowContext) -> str:
        await asyncio.sleep(0.002)
        try:
            async with asyncio.timeout(0.5):  # long enough to record the wait
                await ctx.wait_signal("never")
        except TimeoutError:
            done.append("late")
        return str(await ctx.step("last", act("last", "end")))

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[sleepy]) as engine:
            assert await engine.run(sleepy, execution_id="one") == "end"
            assert await (await engine.fork("one", before="last")).result() == "end"
            assert [one for one in done if one == "last"] == ["last"] * 2
            assert await (await engine.fork("one", before="never")).result() == "end"


# Who undoes what


async def test_a_copied_step_is_undone_by_the_execution_that_ran_it_and_by_no_fork() -> None:
    @workflow
    async def trip(ctx: WorkflowContext) -> None:
        await ctx.step("hotel", act("hotel", "hotel"), compensate=undo)
        await ctx.wait_signal("go")
        await ctx.step("flight", act("flight", "flight"), compensate=undo)
        await ctx.step("fail", act_that_fails)

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[trip]) as engine:
            running = await engine.start(trip, execution_id="one")
            await until(lambda: store.load_open_waits("one", "go"))
            fork = await engine.fork("one", new_id="new")
            await engine.send_signal("new", "go")
            with pytest.raises(WorkflowFailedError):
                await fork.result()
            assert done == ["hotel", "flight", "undo flight"], "the hotel is not its own"
            await running.cancel()
            with pytest.raises(WorkflowCancelledError):
                await running.result()
            assert done == ["hotel", "flight", "undo flight", "undo hotel"]
            with pytest.raises(WorkflowFailedError):
                await (await engine.fork("new", before="fail", edit={"flight": "none"})).result()
            assert done == ["hotel", "flight", "undo flight", "undo hotel"]


def act_that_fails() -> Any:
    raise ValueError("no")


async def test_what_is_undone_is_not_taken_for_done_unless_somebody_gives_its_result() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[order]) as engine:

            @workflow(name="order that fails")
            async def fails(ctx: WorkflowContext) -> Any:
                await ctx.step("look", act("look"))
                held = await ctx.step("hold", act("hold", "held"), compensate=undo)
                return await ctx.step("fail", fails_once, held)

            with pytest.raises(WorkflowFailedError):
                await engine.run(fails, execution_id="one")
            assert done == ["look", "hold", "undo held"]
            await refused(
                store, lambda: engine.fork("one", new_id="new"), "'hold'", "undone", "edit"
            )
            await refused(
                store, lambda: engine.fork("one", before="fail", new_id="new"), "before step 'hold'"
            )
            fork = await engine.fork("one", before="hold")
            assert await fork.result() == "held"
            given = await engine.fork("one", before="fail", edit={"hold": "by hand"})
            assert await given.result() == "by hand"


def fails_once(value: Any) -> Any:
    """Until what was held is undone."""
    if "undo held" not in done:
        raise ValueError("no")
    return value


async def test_an_attempt_that_was_cut_off_is_in_doubt_only_where_it_ran() -> None:
    async def long() -> str:
        done.append("long")
        await asyncio.sleep(3600 if done.count("long") == 1 else 0)
        return "late"

    @workflow
    async def gives_up(ctx: WorkflowContext) -> None:
        slow = asyncio.create_task(ctx.step("slow", long, compensate=undo, on_cancel="stop"))
        await until_noted("long", ctx)
        slow.cancel()
        await ctx.step("second", act("second"))
        await ctx.wait_signal("go")
        await ctx.step("fail", act_that_fails)

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[gives_up], cancel_grace=MOMENT) as engine:
            running = await engine.start(gives_up, execution_id="one")
            await until(lambda: store.load_open_waits("one", "go"))
            fork = await engine.fork("one", before="second", new_id="new")
            await fork.signal("go")
            with pytest.raises(WorkflowFailedError):
                await fork.result()
            assert done == ["long", "second", "second"]
            found = [(await store.load_checkpoints(one))[0] for one in ("one", "new")]
            assert [one.step_name for one in found] == ["slow", "look"], "the fork has not run it"
            await running.cancel()
            with pytest.raises(WorkflowCancelledError):
                await running.result()
            assert done[3:] == ["long", "undo late"], "where it ran, that is found out"


async def test_an_attempt_that_timed_out_is_in_doubt_only_where_it_ran(file: Path) -> None:
    async def long() -> None:
        await asyncio.sleep(3600)

    @workflow
    async def times_out(ctx: WorkflowContext) -> None:
        with suppress(StepTimeoutError):
            await ctx.step("slow", long, timeout=MOMENT, retry=RetryPolicy(max_attempts=1))
        await ctx.step("second", act("second"))

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[times_out]) as engine:
            await engine.run(times_out, execution_id="one")
            fork = await engine.fork("one", before="second", new_id="new")
            await fork.result()
    with closing(sqlite3.connect(file)) as connection:
        found = "select workflow_execution_id, step_name from workflow_in_doubt"
        assert connection.execute(found).fetchall() == [("one", "slow")]


async def until_noted(what: str, ctx: WorkflowContext) -> None:
    async def look() -> None:
        while what not in done:
            await asyncio.sleep(0.001)

    await ctx.step("look", look)


# Children


@workflow
async def child(ctx: WorkflowContext, what: str) -> str:
    if what == "waits":
        await ctx.wait_signal("go")
    return str(await ctx.step("work", act(f"child {what}", what)))


async def test_a_child_that_is_over_has_its_result_and_another_is_started_behind_the_point() -> (
    None
):
    @workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        early = await ctx.start_child("early", child, "early")
        one = await ctx.child("one", child, "one")
        await ctx.step("middle", act("middle"))
        two = await ctx.child("two", child, "two")
        return [await early.result(), one, two]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[parent, child]) as engine:
            source = await engine.run(parent, execution_id="one")
            assert source == ["early", "one", "two"]
            done.clear()
            fork = await engine.fork("one", before="middle", new_id="new")
            assert await fork.result() == source, "the end of the early child is told to it, too"
            assert sorted(done) == ["child two", "middle"]
            last = (await store.load_checkpoints("one"))[-1]
            assert last.step_name.startswith("$child:")
            waits = [
                one.step_name
                for one in await store.load_checkpoints("one")
                if one.step_name.startswith("$child:")
            ]
            edited = await engine.fork("one", edit={waits[0]: "edited"})
            assert sorted(await edited.result()) == sorted(["edited", *source[0:1], *source[2:]])
            again = await engine.fork("new", before="middle")
            assert await again.result() == source, "also by a fork of a fork"


async def test_a_child_that_is_not_over_tells_only_its_parent() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        await ctx.step("first", act("first"))
        started = await ctx.start_child("waits", child, "waits")
        await ctx.step("second", act("second"))
        return await started.result()

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[parent, child]) as engine:
            running = await engine.start(parent, execution_id="one")
            await until(lambda: _only_waits(store, "one"))
            await refused(
                store,
                lambda: engine.fork("one", before="second", new_id="new"),
                "its child",
                "tells only its parent",
                "before step 'waits'",
            )
            fork = await engine.fork("one", before="waits", new_id="other")
            for one in ("one", "other"):
                await until(lambda one=one: _children(store, one))  # type: ignore[misc]
                await engine.send_signal(await _children(store, one), "go")
            assert await running.result() == await fork.result() == "waits"


async def _only_waits(store: Any, execution_id: str) -> bool:
    found = await store.load_execution(execution_id)
    return found is not None and found.status is ExecutionStatus.SUSPENDED


async def _children(store: Any, execution_id: str) -> str:
    for one in await store.load_checkpoints(execution_id):
        if one.step_name == "waits" and one.output_data is not None:
            name: str = msgspec.json.decode(one.output_data)
            if await store.load_open_waits(name, "go"):
                return name
    return ""


async def test_a_fork_of_a_child_is_no_child() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.child("one", child, "one")

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[parent, child]) as engine:
            await engine.run(parent, execution_id="p")
            (start, *_) = await store.load_checkpoints("p")
            name = msgspec.json.decode(start.output_data or "", type=str)
            fork = await engine.fork(name, before="work", new_id="new")
            assert await fork.result() == "one"
            record = await store.load_execution("new")
            assert record is not None
            assert (record.parent_execution_id, record.root_execution_id) == (None, None)


# Continue as new, queues


async def test_of_one_that_continued_as_new_the_run_is_the_same() -> None:
    @workflow
    async def runs(ctx: WorkflowContext, number: int) -> Any:
        await ctx.step("count", act(f"run {number}"))
        if number < 3:
            return ctx.continue_as_new(number + 1)
        key = ctx.idempotency_key("last")
        await ctx.step("last", act("last"))
        return [number, key != "", ctx.random()]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[runs]) as engine:
            source = await engine.run(runs, 1, execution_id="one")
            done.clear()
            fork = await engine.fork("one", before="last", new_id="new")
            assert (await fork.result())[:2] == source[:2]
            assert done == ["last"]
            record = await store.load_execution("new")
            assert record is not None
            assert (record.run_number, record.input_data) == (3, "[3]")


async def test_a_fork_that_continues_as_new_has_nothing_copied_any_more() -> None:
    @workflow
    async def again(ctx: WorkflowContext, number: int) -> Any:
        await ctx.step("first", act("first"))
        await ctx.step("second", act("second"))
        if number:
            return ctx.continue_as_new(number - 1)
        return "end"

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[again]) as engine:
            running = await engine.start(again, 1, execution_id="one")
            await running.result()
            fork = await engine.fork("one", before="second", new_id="new")
            assert await fork.result() == "end"
            record = await store.load_execution("new")
            assert record is not None
            assert record.forked_from == "one"
            whole = await engine.enqueue(again, 1, execution_id="two")
            await whole.result()


# What is refused, and repeated


async def test_a_fork_can_be_repeated_by_its_id_and_another_one_has_not_that_id() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            await engine.run(order, "pen", execution_id="one")
            await engine.run(order, "ink", execution_id="two")
            fork = await engine.fork("one", before="charge", edit={"price": 4}, new_id="new")
            result = await fork.result()
            log = await store.load_audit_log("one")
            again = await engine.fork("one", before="charge", edit={"price": 4}, new_id="new")
            assert await again.result() == result
            assert await store.load_audit_log("one") == log
            for other in (
                engine.fork("one", before="send", edit={"price": 4}, new_id="new"),
                engine.fork("one", before="charge", edit={"price": 5}, new_id="new"),
                engine.fork("two", before="charge", edit={"price": 4}, new_id="new"),
                engine.fork("one", new_id="two"),
            ):
                with pytest.raises(ExecutionConflictError, match="is taken"):
                    await other


async def test_long_values_that_begin_alike_are_not_the_same_fork() -> None:
    @workflow
    async def says(ctx: WorkflowContext) -> int:
        text: str = await ctx.step("text", act("text", "short"))
        return len(text)

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[says]) as engine:
            await engine.run(says, execution_id="one")
            for _ in range(2):
                fork = await engine.fork("one", edit={"text": "x" * 2000}, new_id="new")
                assert await fork.result() == 2000
            with pytest.raises(ExecutionConflictError, match="is taken"):
                await engine.fork("one", edit={"text": "x" * 2001}, new_id="new")


async def test_what_cannot_be_is_refused_before_anything_is_written() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            await engine.run(order, "pen", execution_id="one")

            def fork(**given: Any) -> Callable[[], Awaitable[object]]:
                return lambda: engine.fork("one", new_id="new", **given)

            await refused(store, fork(before="chrage"), "did you mean", error=ValueError)
            await refused(store, fork(before=("b", "charge")), "no step", error=ValueError)
            await refused(store, fork(before=7), "is named by", error=TypeError)
            await refused(store, fork(edit=[1]), "edit must say", error=TypeError)
            await refused(store, fork(edit={7: 1}), "is named by", error=TypeError)
            await refused(store, fork(edit={"prise": 1}), "no step", error=ValueError)
            await refused(
                store, fork(edit={"price": 1, ("", "price"): 2}), "twice", error=ValueError
            )
            await refused(
                store, fork(edit={"charge:compensate": 1}), "compensation", error=ValueError
            )
            await refused(
                store, fork(edit={"price": object()}), "'price'", error=SerializationError
            )
            await refused(store, fork(before="charge", edit={"send": 1}), "was not over before")
            await refused(store, fork(before="charge", edit={"charge": 1}), "was not over before")
            await refused(
                store, fork(before="charge", edit={"price": "much"}), "would stop", "price"
            )
            await refused(store, fork(version=0), "version", error=ValueError)
            with pytest.raises(ExecutionNotFoundError):
                await engine.fork("nobody")


async def test_an_edit_that_leads_another_way_is_refused_where_the_code_is_known() -> None:
    @workflow
    async def ways(ctx: WorkflowContext) -> str:
        if await ctx.step("which", act("which", "left")) == "left":
            await ctx.step("left", act("left"))
        else:
            await ctx.step("right", act("right"))
        return str(await ctx.step("last", act("last", "end")))

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[ways]) as engine:
            await engine.run(ways, execution_id="one")
            wrong = {"which": "right"}
            await refused(
                store,
                lambda: engine.fork("one", before="last", edit=wrong, new_id="new"),
                "would stop",
                "'left'",
                "'right'",
            )
            done.clear()
            fork = await engine.fork("one", before="left", edit=wrong)
            assert await fork.result() == "end"
            assert done == ["right", "last"]
            by_client = await Client(store).fork("one", before="last", edit=wrong, new_id="new")
            with pytest.raises(NonDeterminismError):
                await engine.handle(by_client.execution_id).result()


async def test_the_own_id_is_not_taken_by_a_fork_of_one_that_has_not_begun() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        client = Client(store)
        await client.enqueue(order, "pen", execution_id="one", delay=HOUR, priority=3)
        await client.fork("one", new_id="new")
        record = await store.load_execution("new")
        assert record is not None
        assert (record.priority, record.replay_origin, record.forked_from) == (3, None, "one")
        async with DurableEngine(store, workflows=[order]) as engine:
            assert await engine.handle("new").result() == [3, "paid 3", "sent pen"]


# Retry, with other results


async def test_a_retry_where_it_failed_can_have_other_results() -> None:
    @workflow
    async def buy(ctx: WorkflowContext) -> list[Any]:
        price = await ctx.step("price", act("price", 13))
        return [price, await ctx.step("charge", charge, price)]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[buy]) as engine:
            for name in ("one", "two"):
                with pytest.raises(WorkflowFailedError):
                    await engine.run(buy, execution_id=name)
            done.clear()
            await engine.retry("one", edit={"price": 12}, by="kim")
            assert await engine.handle("one").result() == [12, "paid 12"]
            assert done == ["charge 12"]
            entry = (await store.load_audit_log("one"))[-1]
            assert (entry.act, entry.actor) == ("retry", "kim")
            assert (await noted(store, "one"))["edit"] == [
                {"step": "step 'price' (index 0)", "was": 13, "value": 12}
            ]
            await engine.retry("two", edit={"price": 14, "charge": "by hand"})
            assert await engine.handle("two").result() == [14, "by hand"]
            assert done == ["charge 12"]


async def test_a_retry_from_a_step_can_have_other_results_before_it() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            item = "x" * 13
            with pytest.raises(WorkflowFailedError):
                await engine.run(order, item, execution_id="one")
            done.clear()
            await engine.retry("one", from_step="charge", edit={"price": 12})
            assert await engine.handle("one").result() == [12, "paid 12", f"sent {item}"]
            assert done == ["charge 12", f"send {item}"]
            details = await noted(store, "one")
            assert details["from"] == "step 'charge' (index 1)"
            assert details["edit"] == [{"step": "step 'price' (index 0)", "was": 13, "value": 12}]


async def test_a_step_that_was_undone_stands_again_if_somebody_gives_its_result() -> None:
    is_bad = True

    def fail() -> str:
        if is_bad:
            raise ValueError("no")
        return "end"

    @workflow
    async def hold(ctx: WorkflowContext) -> Any:
        held = await ctx.step("hold", act("hold", "held"), compensate=undo)
        return [held, await ctx.step("pay", fail)]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[hold]) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(hold, execution_id="one")
            assert done == ["hold", "undo held"]
            await refused(store, lambda: engine.retry("one", from_step="pay"), "undone")
            await refused(store, lambda: engine.retry("one", edit={"hold": "x"}), "compensated")
            await engine.retry("one", from_step="pay", edit={"hold": "by hand"})
            with pytest.raises(WorkflowFailedError):
                await engine.handle("one").result()
            assert done == ["hold", "undo held", "undo by hand"], "it stood again"
            is_bad = False
            await engine.retry("one", from_step="pay", edit={"hold": "once more"})
            assert await engine.handle("one").result() == ["once more", "end"]


async def test_a_retry_with_other_results_says_what_a_step_did_that_is_in_doubt() -> None:
    async def long() -> str:
        done.append("long")
        await asyncio.sleep(3600)
        return "slow"

    failures = [ValueError("no")]

    async def fail() -> str:
        while "long" not in done:
            await asyncio.sleep(0.001)
        if failures:
            raise failures.pop()
        return "quick"

    @workflow
    async def both(ctx: WorkflowContext) -> list[str]:
        return list(await asyncio.gather(ctx.step("slow", long), ctx.step("quick", fail)))

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[both], cancel_grace=MOMENT) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(both, execution_id="one")
            await refused(store, lambda: engine.resolve("one", "slow", "by hand"), "retry", "edit")
            await engine.retry("one", edit={"slow": "by hand"})
            assert await engine.handle("one").result() == ["by hand", "quick"]
            assert done == ["long"]


async def test_a_result_that_cannot_be_read_is_replaced_where_it_stopped() -> None:
    async def number() -> int:
        return 7

    @workflow(name="reads")
    async def before(ctx: WorkflowContext) -> Any:
        await ctx.step("number", text)
        await ctx.step("other", act("other"))
        return await ctx.wait_signal("go")

    async def text() -> str:
        return "seven"

    @workflow(name="reads")
    async def after(ctx: WorkflowContext) -> Any:
        found = await ctx.step("number", number)
        await ctx.step("other", act("other"))
        await ctx.wait_signal("go")
        return found

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[before]) as engine:
            await engine.start(before, execution_id="one")
            await until(lambda: store.load_open_waits("one", "go"))
        async with DurableEngine(store, workflows=[after]) as engine:
            await engine.send_signal("one", "go")
            with pytest.raises(SerializationError):
                await engine.handle("one").result()
            await until(lambda: _is_in_trouble(store, "one"))
            await refused(store, lambda: engine.retry("one", edit={"other": 1}), "would stop")
            await engine.retry("one", edit={"number": 8})
            assert await engine.handle("one").result() == 8
            assert done == ["other"]


async def _is_in_trouble(store: Any, execution_id: str) -> bool:
    found = await store.load_execution(execution_id)
    return found is not None and found.trouble is not None


async def test_a_retry_with_other_results_is_refused_where_nothing_is_to_be_run_again() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            await engine.run(order, "pen", execution_id="one")
            await refused(store, lambda: engine.retry("one", edit={"price": 1}), "fork")
            await refused(
                store, lambda: engine.retry("one", edit={"price": 1}, from_step="charge"), "fork"
            )
            await refused(
                store,
                lambda: engine.retry("one", edit={"price": object()}),
                error=SerializationError,
            )
            await refused(store, lambda: engine.resolve("one", "price", 1), "fork")
            await Client(store).enqueue(order, "pen", execution_id="two", delay=HOUR)
            await refused(
                store, lambda: engine.retry("two", edit={"price": 1}), "goes on by itself", of="two"
            )


async def test_resolve_says_what_to_do_where_the_function_has_got_an_outcome() -> None:
    @workflow
    async def fails(ctx: WorkflowContext) -> None:
        await ctx.step("first", act("first"))
        try:
            await ctx.step("caught", act_that_fails)
        except ValueError:
            done.append("caught")
        await ctx.step("last", act_that_fails)

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[fails]) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(fails, execution_id="one")
            for step in ("first", "caught"):
                await refused(store, lambda step=step: engine.resolve("one", step, 1), "edit=")  # type: ignore[misc]
            await engine.retry("one", edit={"caught": 1, "last": None})
            await engine.handle("one").result()


async def test_a_retry_of_a_fork_from_a_copied_step_runs_that_step_as_its_own() -> None:
    @workflow
    async def trip(ctx: WorkflowContext) -> None:
        await ctx.step("hotel", act("hotel", "hotel"), compensate=undo)
        await ctx.step("car", act("car", "car"), compensate=undo)
        await ctx.step("fail", fails_in_a_fork)

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[trip]) as engine:
            await engine.run(trip, execution_id="one")
            done.append("broken")
            fork = await engine.fork("one", before="fail", new_id="new")
            with pytest.raises(WorkflowFailedError):
                await fork.result()
            assert done == ["hotel", "car", "broken"], "nothing of it was its own to undo"
            await engine.retry("new", from_step="car")
            with pytest.raises(WorkflowFailedError):
                await engine.handle("new").result()
            assert done == ["hotel", "car", "broken", "car", "undo car"]
            record = await store.load_execution("new")
            assert record is not None
            assert '["one",1]' in (record.replay_origin or "")


def fails_in_a_fork() -> Any:
    if "broken" in done:
        raise ValueError("no")


async def test_a_step_that_failed_and_was_caught_can_be_made_a_success() -> None:
    @workflow
    async def tries(ctx: WorkflowContext) -> str:
        once = RetryPolicy.fixed(max_attempts=2, delay=timedelta(0))
        try:
            return str(await ctx.step("first", act_that_fails, retry=once))
        except ValueError:
            return "caught"

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[tries]) as engine:
            assert await engine.run(tries, execution_id="one") == "caught"
            assert await (await engine.fork("one")).result() == "caught"
            fork = await engine.fork("one", edit={"first": "fine"}, new_id="new")
            statuses = [one.status for one in await store.load_checkpoints("new")]
            assert statuses == [StepStatus.FAILED, StepStatus.COMPLETED]
            assert (await noted(store, "new"))["edit"][0]["was"].startswith("FAILED: builtins:")
            assert ErrorClassNotFoundError.__name__ not in str(await fork.status())
