"""Plain asyncio in a workflow function is durable."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    Record,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepStatus,
    WorkflowCancelledError,
    WorkflowClaim,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine import watchdog
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.databases import new_database
from tests.processes import Journal, die, run_until_killed
from tests.stores import SavesAll

Step = Callable[..., Coroutine[Any, Any, str]]
Body = Callable[[WorkflowContext, Step], Awaitable[Any]]

QUICK, SLOW, NEVER = 0.0, 0.15, 3600.0
A_MOMENT = 0.05
FULL = bool(os.environ.get("DURABLE_CRASH_FULL"))


async def act(journal: Journal, name: str, seconds: float, fails: bool) -> str:
    journal.note(f"begin {name}")
    await asyncio.sleep(seconds)
    if fails:
        raise ValueError(name)
    return name


def make(body: Body, journal: Journal) -> WorkflowDefinition[[], Any]:
    """A workflow of which each step notes that it begins."""

    @workflow(name="plain")
    async def plain(ctx: WorkflowContext) -> Any:
        def step(name: str, seconds: float = QUICK, fails: bool = False) -> Any:
            return ctx.step(name, act, journal, name, seconds, fails)

        return await body(ctx, step)

    return plain


# What asyncio and anyio have


async def gathers(ctx: WorkflowContext, step: Step) -> Any:
    first = await asyncio.gather(step("a", SLOW), step("b"), step("c"))
    errors = await asyncio.gather(step("d", fails=True), step("e"), return_exceptions=True)
    return [*first, *map(repr, errors)]


async def task_group(ctx: WorkflowContext, step: Step) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(step(name)) for name in "ab"]
    caught = ""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(step("loser", NEVER))
            group.create_task(step("fails", A_MOMENT, fails=True))
    except* ValueError as errors:
        caught = repr(errors.exceptions[0])
    return [*(task.result() for task in tasks), caught, await step("last")]


async def waits_for_the_first(ctx: WorkflowContext, step: Step) -> Any:
    tasks = {asyncio.create_task(step(name, s)) for name, s in (("a", NEVER), ("b", A_MOMENT))}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    return [*(task.result() for task in done), [task.cancelled() for task in pending]]


async def as_completed(ctx: WorkflowContext, step: Step) -> Any:
    steps = [step("a", SLOW), step("b")]
    found = []
    for number, next_one in enumerate(asyncio.as_completed(steps)):
        found.append(await next_one)
        found.append(await step(f"after {number}"))
    return found


async def sleeps(ctx: WorkflowContext, step: Step) -> Any:
    before = ctx.now()
    await asyncio.sleep(0)
    await step("a")
    await asyncio.sleep(A_MOMENT)
    await step("b")
    await asyncio.gather(asyncio.sleep(A_MOMENT), asyncio.sleep(SLOW))
    return (ctx.now() - before) >= timedelta(seconds=A_MOMENT + SLOW)


async def timeouts(ctx: WorkflowContext, step: Step) -> Any:
    found = []
    try:
        async with asyncio.timeout(A_MOMENT):
            await step("loser", NEVER)
    except TimeoutError:
        found.append("timeout")
    async with asyncio.timeout(NEVER):
        found.append(await step("in time"))
    try:
        await asyncio.wait_for(ctx.wait_signal("never"), A_MOMENT)
    except TimeoutError:
        found.append("wait_for")
    found.append(await asyncio.wait_for(step("also in time"), NEVER))
    return found


async def shields(ctx: WorkflowContext, step: Step) -> Any:
    task = asyncio.create_task(step("goes on", SLOW))
    try:
        await asyncio.wait_for(asyncio.shield(task), A_MOMENT)
    except TimeoutError:
        await step("meanwhile")
    return await task


async def queue(ctx: WorkflowContext, step: Step) -> Any:
    items: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1)

    async def produce() -> None:
        for name in "abc":
            await items.put(await step(f"make {name}"))
        await items.put(None)

    async def consume() -> list[str]:
        return [await step(f"use {item}") for item in [await items.get() for _ in range(4)] if item]

    _, used = await asyncio.gather(produce(), consume())
    return used


async def lock(ctx: WorkflowContext, step: Step) -> Any:
    guard = asyncio.Lock()
    order = []

    async def both(name: str, seconds: float) -> None:
        async with guard:
            order.append(await step(f"{name}1", seconds))
            order.append(await step(f"{name}2"))

    await asyncio.gather(both("a", SLOW), both("b", QUICK))
    return order


async def event(ctx: WorkflowContext, step: Step) -> Any:
    ready = asyncio.Event()

    async def waits(name: str) -> str:
        await ready.wait()
        return await step(name)

    waiting = [asyncio.create_task(waits(name)) for name in "ab"]
    await step("first", A_MOMENT)
    ready.set()
    return await asyncio.gather(*waiting)


async def semaphore(ctx: WorkflowContext, step: Step) -> Any:
    two = asyncio.Semaphore(2)
    inside, most = 0, 0

    async def one(name: str) -> str:
        nonlocal inside, most
        async with two:
            inside += 1
            most = max(most, inside)
            await step(name)
            inside -= 1
            return name

    return [*await asyncio.gather(*map(one, "abcde")), most]


async def condition(ctx: WorkflowContext, step: Step) -> Any:
    stock: list[str] = []
    changed = asyncio.Condition()

    async def take(name: str) -> str:
        async with changed:
            await changed.wait_for(lambda: stock)
            return f"{name} {stock.pop(0)}"

    takers = [asyncio.create_task(take(name)) for name in "xy"]
    for name in "ab":
        made = await step(name)
        async with changed:
            stock.append(made)
            changed.notify_all()
    return await asyncio.gather(*takers)


async def pages(step: Step, book: str, count: int) -> AsyncGenerator[str]:
    try:
        for number in range(count):
            yield await step(f"{book}{number}")
    finally:
        await asyncio.sleep(0)


async def async_generators(ctx: WorkflowContext, step: Step) -> Any:
    found = [page async for page in pages(step, "a", 2)]
    async with aclosing(pages(step, "b", 9)) as few:
        found.append(await anext(few))
    return [*found, await step("last")]


async def abandoned_generators(ctx: WorkflowContext, step: Step) -> Any:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield await step("item")
        finally:
            await step("close")
            closed.set()

    async for found in endless():
        result = found
        break
    await closed.wait()
    return result


async def context_managers(ctx: WorkflowContext, step: Step) -> Any:
    @asynccontextmanager
    async def room(name: str) -> AsyncIterator[str]:
        entered = await step(f"enter {name}")
        try:
            yield entered
        finally:
            await step(f"leave {name}")

    async with room("a") as a, room("b") as b:
        return [a, b, await step("inside")]


async def anyio_groups(ctx: WorkflowContext, step: Step) -> Any:
    found: list[str] = []

    async def one(name: str, seconds: float = QUICK) -> None:
        found.append(await step(name, seconds))

    async with anyio.create_task_group() as group:
        group.start_soon(one, "a", SLOW)
        group.start_soon(one, "b")
    async with anyio.create_task_group() as group:
        group.start_soon(one, "loser", NEVER)
        await one("c", A_MOMENT)
        group.cancel_scope.cancel()
    return [*found, await step("last")]


async def anyio_scopes(ctx: WorkflowContext, step: Step) -> Any:
    found = []
    with anyio.move_on_after(A_MOMENT) as scope:
        await step("loser", NEVER)
    found.append(scope.cancelled_caught)
    with anyio.move_on_after(NEVER) as scope:
        found.append(await step("in time"))
    try:
        with anyio.fail_after(A_MOMENT):
            try:
                await anyio.sleep(NEVER)
            finally:
                with anyio.CancelScope(shield=True):
                    found.append(await step("clean up"))
    except TimeoutError:
        found.append("timeout")
    return found


async def anyio_streams(ctx: WorkflowContext, step: Step) -> Any:
    send, receive = anyio.create_memory_object_stream[str](1)
    found: list[str] = []

    async def produce() -> None:
        async with send:
            for name in "abc":
                await send.send(await step(f"make {name}"))

    async def consume() -> None:
        async with receive:
            async for item in receive:
                found.append(await step(f"use {item}"))  # noqa: PERF401 - one at a time

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        group.start_soon(consume)
    return found


BODIES: dict[Body, Any] = {
    gathers: ["a", "b", "c", "ValueError('d')", "'e'"],
    task_group: ["a", "b", "ValueError('fails')", "last"],
    waits_for_the_first: ["b", [True]],
    as_completed: ["b", "after 0", "a", "after 1"],
    sleeps: True,
    timeouts: ["timeout", "in time", "wait_for", "also in time"],
    shields: "goes on",
    queue: ["use make a", "use make b", "use make c"],
    lock: ["a1", "a2", "b1", "b2"],
    event: ["a", "b"],
    semaphore: ["a", "b", "c", "d", "e", 2],
    condition: ["x a", "y b"],
    async_generators: ["a0", "a1", "b0", "last"],
    abandoned_generators: "item",
    context_managers: ["enter a", "enter b", "inside"],
    anyio_groups: ["b", "a", "c", "last"],
    anyio_scopes: [True, "in time", "clean up", "timeout"],
    anyio_streams: ["use make a", "use make b", "use make c"],
}
ALL_BODIES = pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)


@ALL_BODIES
async def test_it_does_in_a_workflow_what_it_does_elsewhere(body: Body, journal: Journal) -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        async with asyncio.timeout(30):
            assert await engine.run(make(body, journal)) == BODIES[body]


class Deadly(SavesAll):
    """Kills its process when it has recorded so many events."""

    events = 0
    dies_after = 0

    async def save(self, *records: Record, claim: WorkflowClaim | None = None, **more: Any) -> None:
        await super().save(*records, claim=claim, **more)
        self.events += sum(
            isinstance(one, StepCheckpoint) and one.event is not None for one in records
        )
        if 0 < self.dies_after <= self.events:
            die()


async def one_process(
    file: Path, plain: WorkflowDefinition[[], Any], dies_after: int = 0
) -> tuple[Any, int]:
    """The result, and how many events were recorded."""
    async with Deadly.file(file) as store, DurableEngine(store) as engine:
        assert isinstance(store, Deadly)
        store.dies_after = dies_after
        async with asyncio.timeout(20):
            return await engine.run(plain, execution_id="one"), store.events


def recorded(file: Path) -> list[StepCheckpoint]:
    async def load() -> list[StepCheckpoint]:
        async with SqliteCheckpointStore.file(file) as store:
            return await store.load_checkpoints("one")

    return asyncio.run(load())


@pytest.mark.few(2)
@ALL_BODIES
def test_it_goes_on_after_its_events_and_runs_nothing_again_that_is_recorded(
    body: Body, tmp_path: Path
) -> None:
    _, count = asyncio.run(
        one_process(
            new_database(tmp_path / "whole.db"), make(body, Journal(tmp_path / "whole journal"))
        )
    )
    numbers = range(1, count + 1)
    if not FULL:  # of each body others
        numbers = range(1 + list(BODIES).index(body) % 4, count + 1, 4)
    for number in numbers:
        file = new_database(tmp_path / f"{number}.db")
        journal = Journal(tmp_path / f"journal {number}")
        plain = make(body, journal)
        run_until_killed(lambda file=file, plain=plain, n=number: one_process(file, plain, n))
        before = {one.event: one for one in recorded(file) if one.event is not None}
        assert len(before) >= number  # others may have been committed with it
        assert sorted(before) == list(range(1, len(before) + 1))
        begun = len(journal.lines)
        result, _ = asyncio.run(one_process(file, plain))
        assert result == BODIES[body], f"killed after event {number}"
        after = {one.event: one for one in recorded(file) if one.event is not None}
        assert sorted(after) == list(range(1, len(after) + 1))
        assert {event: after[event] for event in before} == before
        over = {f"begin {one.step_name}" for one in before.values()}
        assert not over.intersection(journal.lines[begun:]), f"killed after event {number}"
        ended = [one for one in after.values() if one.status is StepStatus.COMPLETED]
        assert len({(one.branch, one.step_index) for one in ended}) == len(ended)


# What loses never runs again


def test_what_lost_a_race_does_not_run_again(file: Path, journal: Journal) -> None:
    async def races(ctx: WorkflowContext, step: Step) -> str:
        loser = asyncio.create_task(step("loser", NEVER))
        winner = await step("winner", A_MOMENT)
        loser.cancel()
        await step("after")
        return winner

    for _ in range(2):  # when the winner is recorded, and when the next step is
        run_until_killed(lambda: one_process(file, make(races, journal), 1))
    assert asyncio.run(one_process(file, make(races, journal)))[0] == "winner"
    assert sorted(journal.lines) == ["begin after", "begin loser", "begin winner"]


def test_a_wait_that_was_given_up_right_before_a_crash_wakes_nobody_after_it(
    file: Path, journal: Journal
) -> None:
    async def body(ctx: WorkflowContext, step: Step) -> Any:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):  # so long that the wait is recorded before it is up
                await ctx.wait_signal("too late", timeout=timedelta(days=1))
        return await ctx.wait_signal("answer")

    plain = make(body, journal)

    async def second_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(plain, execution_id="one")
            async with asyncio.timeout(30):
                waits: dict[str, StepCheckpoint] = {}
                while "answer" not in waits:
                    await asyncio.sleep(0.01)
                    waits = {one.step_name: one for one in await store.load_checkpoints("one")}
            given_up = waits["too late"]
            assert (given_up.status, given_up.event) == (StepStatus.FAILED, None)
            assert not await store.load_pending_timers()
            await handle.signal("answer", "yes")
            assert await handle.result() == "yes"

    run_until_killed(lambda: one_process(file, plain, 1))
    assert {one.step_name: one.status for one in recorded(file)} == {
        "timer": StepStatus.COMPLETED,
        "too late": StepStatus.INTENT,
    }
    asyncio.run(second_process())


def test_of_two_signals_the_one_that_came_first_wins_in_every_process(file: Path) -> None:
    async def first_signal(ctx: WorkflowContext, step: Step) -> str:
        await step("begin")
        waits = {asyncio.create_task(ctx.wait_signal(name)): name for name in "ab"}
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return "".join(waits[task] for task in done)

    plain = make(first_signal, Journal(file.with_name("journal")))

    async def first_process() -> None:
        async with Deadly.file(file) as store, DurableEngine(store) as engine:
            assert isinstance(store, Deadly)
            store.dies_after = 2
            handle = await engine.start(plain, execution_id="one")
            await asyncio.gather(handle.signal("b"), handle.signal("a"))
            await handle.result()

    run_until_killed(first_process)
    assert asyncio.run(one_process(file, plain))[0] == "b"
    waits = {one.step_name: one for one in recorded(file) if one.step_name in "ab"}
    assert waits["b"].status is StepStatus.COMPLETED
    if "a" in waits:  # it had begun, before the signals came
        assert (waits["a"].status, waits["a"].event) == (StepStatus.FAILED, None)


# What it sees of its surroundings

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@workflow
async def asks_who(ctx: WorkflowContext) -> list[str]:
    async def in_a_task() -> str:
        return await ctx.step("in a task", who.get)

    found = [who.get(), await ctx.step("first", who.get)]
    who.set("the body")
    found += [who.get(), await ctx.step("second", who.get), await asyncio.create_task(in_a_task())]
    await ctx.step("sets it", who.set, "an action", serialize=str)
    return [*found, who.get()]


def test_context_variables_are_never_those_of_whoever_starts_it() -> None:
    async def main(context: contextvars.Context | None) -> list[str]:
        who.set("the starter")
        async with (
            SqliteCheckpointStore.in_memory() as store,
            DurableEngine(store, context=context) as engine,
        ):
            return await engine.run(asks_who)

    own = ["the body"] * 4
    assert asyncio.run(main(None)) == ["nobody", "nobody", *own]
    given = contextvars.copy_context()
    given.run(who.set, "the engine")
    assert asyncio.run(main(given)) == ["the engine", "the engine", *own]
    assert given[who] == "the engine"


async def test_the_context_is_at_hand_in_every_task_of_a_workflow_and_in_no_action() -> None:
    def here() -> bool:
        return WorkflowContext.current() is not None

    async def here_too() -> bool:
        return here()

    undone: list[bool] = []

    @workflow
    async def looks(ctx: WorkflowContext) -> None:
        assert WorkflowContext.current() is ctx
        assert await asyncio.create_task(here_too())
        assert not await ctx.step("act", here_too, compensate=lambda _: undone.append(here()))
        assert not await ctx.step("act in a thread", here)
        raise ValueError("undo it")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError, match="undo it"):
            await engine.run(looks)
    assert WorkflowContext.current() is None
    assert undone == [False]


@pytest.mark.parametrize("queued", [False, True], ids=["started", "queued"])
def test_chance_and_the_time_are_the_same_in_every_process(
    queued: bool, file: Path, journal: Journal
) -> None:
    async def body(ctx: WorkflowContext, step: Step) -> list[str]:
        def look(where: WorkflowContext) -> list[str]:
            return [str(where.now()), str(where.random()), str(where.uuid4())]

        found = look(ctx) + look(ctx) + look(ctx.branch("a"))
        await step("one")
        await asyncio.sleep(A_MOMENT)
        found += look(ctx)
        journal.note(" ".join(found))
        await step("two")
        return found

    plain = make(body, journal)

    async def first_process() -> None:
        async with Deadly.file(file) as store, DurableEngine(store, [plain]) as engine:
            assert isinstance(store, Deadly)
            store.dies_after = 3
            begin = engine.enqueue if queued else engine.start
            await (await begin(plain, execution_id="one")).result()

    run_until_killed(first_process)
    time.sleep(0.01)
    found, _ = asyncio.run(one_process(file, plain))
    assert [line for line in journal.lines if not line.startswith("begin")] == [" ".join(found)] * 2
    assert len({found[number] for number in (1, 2, 4, 5, 7, 8, 10, 11)}) == 8
    assert found[0] < found[9]


# A program with a workflow in it


async def test_a_workflow_that_blocks_the_event_loop_is_named_with_its_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "BLOCKS_AFTER_S", 0.6)

    @workflow
    async def computes(ctx: WorkflowContext) -> None:
        time.sleep(1.1)  # noqa: ASYNC251 - that is what it is about

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(computes, execution_id="one")
    (warning,) = [one.getMessage() for one in caplog.records if "has blocked" in one.getMessage()]
    line = computes.function.__code__.co_firstlineno + 2
    for part in ("'computes'", "'one'", f"{__file__}:{line};", "in a step"):
        assert part in warning


async def test_a_workflow_that_is_quick_is_not_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "BLOCKS_AFTER_S", 0.6)

    @workflow
    async def long(ctx: WorkflowContext) -> None:
        await ctx.step("take time", time.sleep, 1.1)
        await asyncio.sleep(0.1)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(long)
    assert not [one for one in caplog.records if "has blocked" in one.getMessage()]


@pytest.mark.parametrize("swallows", [asyncio.CancelledError, BaseException])
@pytest.mark.parametrize("how", ["dispose", "cancel"])
async def test_a_workflow_that_will_not_end_keeps_nobody_from_it(
    swallows: type[BaseException], how: str
) -> None:
    is_over = False

    @workflow
    async def stubborn(ctx: WorkflowContext) -> None:
        while not is_over:
            with suppress(swallows):
                await asyncio.sleep(3600)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(stubborn, execution_id="one")
        await asyncio.sleep(A_MOMENT)
        async with asyncio.timeout(30):
            if how == "cancel":
                assert await handle.cancel()
                with pytest.raises(WorkflowCancelledError):
                    await handle.result()
            await engine.dispose()
        record = await loaded(store, "one")
        assert record.status.is_terminal is (how == "cancel")
    is_over = True
    gc.collect()  # it ends here, and not in an interpreter that ends


@pytest.mark.few(6)
@ALL_BODIES
def test_it_is_the_same_in_the_debug_mode_of_asyncio(body: Body, journal: Journal) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            async with asyncio.timeout(30):
                assert await engine.run(make(body, journal)) == BODIES[body]

    asyncio.run(main(), debug=True)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@ALL_BODIES
async def test_it_is_the_same_where_tasks_begin_at_once(body: Body, journal: Journal) -> None:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        async with asyncio.timeout(30):
            assert await engine.run(make(body, journal)) == BODIES[body]


async def test_only_what_it_waits_for_tells_whether_it_rests() -> None:
    """It is SUSPENDED at once, and only while nothing of it runs."""
    goes_on = asyncio.Event()

    @workflow
    async def waits(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.step("act", goes_on.wait), asyncio.sleep(3600))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(waits)
        await asyncio.sleep(0.2)
        assert await handle.status() is ExecutionStatus.RUNNING
        goes_on.set()
        async with asyncio.timeout(30):
            while await handle.status() is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0)
