"""A sandbox replays each workflow function from its records, and says where that differs."""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ExecutionStatus,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowExpiredError,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing import AsyncSandbox, Sandbox

DAY = timedelta(days=1)
ANOTHER_WAY = "a replay from the records differs from the first run"
AnyWorkflow = WorkflowDefinition[*tuple[Any, ...], Any]

counted: list[int] = []


def count() -> int:
    counted.append(len(counted))
    return counted[-1]


async def note(what: object = None) -> str:
    return str(what)


async def fail() -> None:
    raise ValueError("no")


async def set_mood(mood: str) -> None:
    os.environ["MOOD"] = mood


@pytest.fixture(autouse=True)
def _no_mood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOOD", "none")


# What a test finds, though nothing crashes in it


@workflow
async def by_chance(ctx: WorkflowContext) -> None:
    await ctx.step("first", note)
    await ctx.step(f"step {random.random()}", note)


@workflow
async def by_the_machines_time(ctx: WorkflowContext) -> None:
    await ctx.step(f"at {datetime.now(UTC).isoformat()}", note)


@workflow
async def by_a_new_id(ctx: WorkflowContext) -> str:
    await ctx.step("first", note)
    return str(uuid.uuid4())


@workflow
async def by_a_counter(ctx: WorkflowContext) -> None:
    for number in range(count() + 1):
        await ctx.step(f"step {number}", note)


@workflow
async def by_a_thread_of_its_own(ctx: WorkflowContext) -> None:
    with ThreadPoolExecutor() as threads:
        number = threads.submit(count).result()
    await ctx.step(f"step {number}", note)


@workflow
async def by_the_environment(ctx: WorkflowContext) -> None:
    if os.environ["MOOD"] == "good":
        await ctx.step("sing", note)
    await ctx.step("set mood", set_mood, "good")


@workflow
async def by_how_fast_it_is(ctx: WorkflowContext) -> None:
    began_at = time.monotonic_ns()
    await ctx.step("first", note)
    await ctx.step(f"after {time.monotonic_ns() - began_at} ns", note)


@workflow
async def until_a_time_of_the_machine(ctx: WorkflowContext) -> None:
    await ctx.sleep_until("nap", datetime.now(UTC) + 3000 * DAY)


@workflow
async def for_a_chance_time(ctx: WorkflowContext) -> None:
    await asyncio.sleep(60 * random.random())
    await ctx.step("first", note)


@workflow
async def with_an_error_by_chance(ctx: WorkflowContext) -> None:
    await ctx.step("first", note)
    raise (OSError, ValueError)[count() % 2]


@workflow
async def beside_it_by_chance(ctx: WorkflowContext) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.sleep("night", DAY))
        for _ in range(count()):
            group.create_task(ctx.wait_signal("never"))


@pytest.mark.parametrize(
    ("wrong", "recorded", "asked"),
    [
        (by_chance, "step 'step 0.", "asks for step 'step 0."),
        (by_the_machines_time, "step 'at 20", "asks for step 'at 20"),
        (by_a_new_id, 'the result "', 'returns "'),
        (by_a_counter, "a result recorded", "now waits for step 'step "),
        (by_a_thread_of_its_own, "step 'step 0'", "asks for step 'step 1'"),
        (by_the_environment, "step 'set mood'", "asks for step 'sing'"),
        (by_how_fast_it_is, "step 'after ", "asks for step 'after "),
        (until_a_time_of_the_machine, "sleep 'nap'", "asks for one until 20"),
        (for_a_chance_time, "timer 0 of its event loop", "now has timer 0, due at"),
        (with_an_error_by_chance, "the error builtins:", "now raises builtins:"),
        (beside_it_by_chance, "nothing recorded at index", "asks for signal 'never'"),
    ],
    ids=lambda one: one.name if isinstance(one, WorkflowDefinition) else "",
)
def test_what_no_replay_can_repeat_fails_the_test_with_both_sides_named(
    durable: Sandbox, wrong: AnyWorkflow, recorded: str, asked: str
) -> None:
    counted.clear()
    with pytest.raises(AssertionError, match=ANOTHER_WAY) as raised:
        durable.run(wrong)
    assert f"execution '{wrong.name}-1' has {recorded}" in str(raised.value)
    assert asked in str(raised.value)


def test_it_is_found_as_soon_as_the_execution_rests(durable: Sandbox) -> None:
    @workflow
    async def rests(ctx: WorkflowContext) -> None:
        await ctx.step(f"step {random.random()}", note)
        await ctx.wait_signal("go on")

    execution = durable.start(rests)
    with pytest.raises(AssertionError, match=ANOTHER_WAY):
        execution.status()


@pytest.mark.parametrize("how", ["cancelled", "expired", "failed"])
def test_an_execution_that_ends_early_is_replayed_up_to_there(durable: Sandbox, how: str) -> None:
    what = "early"

    @workflow
    async def ends(ctx: WorkflowContext) -> None:
        await ctx.step(what, note, compensate=note)
        await ctx.sleep("night", DAY)
        await ctx.step("second", fail)

    execution = durable.start(ends, ttl=DAY / 2 if how == "expired" else None)
    durable.settle()
    what = "late"
    if how == "cancelled":
        execution.cancel()
    with pytest.raises(AssertionError, match=r"has step 'early' .* asks for step 'late'"):
        execution.result()


def test_it_can_be_turned_off() -> None:
    with Sandbox(check_replay=False) as durable:
        durable.run(by_chance)
        assert durable.status() is ExecutionStatus.COMPLETED


def test_an_async_sandbox_finds_it_too() -> None:
    async def main() -> None:
        async with AsyncSandbox() as durable:
            await durable.run(by_chance)

    with pytest.raises(AssertionError, match=ANOTHER_WAY):
        asyncio.run(main())


def test_a_long_history_is_replayed_now_and_then_and_in_any_case_at_the_end() -> None:
    what = "early"

    @workflow
    async def nights(ctx: WorkflowContext) -> None:
        while True:
            await ctx.sleep("night", DAY)
            await ctx.step(what, note)

    durable = Sandbox()
    durable.start(nights)
    durable.advance(60.5 * DAY)
    what = "late"
    durable.advance(DAY)
    durable.close()
    with pytest.raises(AssertionError, match="has step 'early' recorded at index 1"):
        durable.check()


# What it does not complain of


@workflow
async def nightly(ctx: WorkflowContext, nights: int) -> int:
    for _ in range(nights):
        night = ctx.now().replace(hour=3, minute=0, second=0, microsecond=0)
        await ctx.sleep_until("03:00", night if night > ctx.now() else night + DAY)
        await ctx.step("prune", note)
    return nights


@workflow
async def all_kinds(ctx: WorkflowContext) -> list[str]:
    found = [f"{ctx.uuid4()} {ctx.random()} {ctx.now()}"]
    try:
        async with asyncio.timeout(3600):
            await ctx.wait_signal("never comes")
    except TimeoutError:
        found.append("late")
    first, second = (
        asyncio.gather(ctx.branch("a").step("fast", note, 1), ctx.branch("b").sleep("slow", DAY)),
        asyncio.create_task(ctx.wait_signal("news", timeout=2 * DAY)),
    )
    found.append(str(await first))
    await asyncio.wait([second], timeout=3 * 86400)
    await asyncio.sleep(10)
    try:
        await ctx.step("fails", fail)
    except ValueError as error:
        found.append(str(error))
    return found


@workflow
async def undone(ctx: WorkflowContext) -> None:
    await ctx.step("pay", note, compensate=note)
    await ctx.sleep("night", DAY)
    await ctx.step("ship", fail)


def test_what_is_the_same_each_time_passes(durable: Sandbox) -> None:
    assert durable.run(nightly, 40) == 40
    durable.run(all_kinds)
    with pytest.raises(WorkflowFailedError):
        durable.run(undone)
    execution = durable.start(undone)
    execution.cancel()
    with pytest.raises(WorkflowCancelledError):
        execution.result()
    with pytest.raises(WorkflowExpiredError):
        durable.run(undone, ttl=timedelta(hours=1))


@pytest.mark.parametrize("moment", ["before", "after", "recorded"])
def test_a_crash_in_between_makes_no_difference(durable: Sandbox, moment: Any) -> None:
    for step in ("fast", "fails"):
        durable.crash_at(step, moment)
    durable.signal_when_awaited("news", "good")
    durable.run(all_kinds)
    assert len(durable.crashes) == 2


def test_a_year_of_nights_takes_no_time(durable: Sandbox) -> None:
    began_at = time.process_time()
    execution = durable.start(nightly, 1000)
    durable.advance(365 * DAY)
    assert execution.history().times("prune") == 365
    assert time.process_time() - began_at < 5  # it is a third of a second


def test_a_workflow_that_waits_for_the_time_of_another_clock_is_told_of(
    durable: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_workflow_sqlite.testing.simulation.MOST_OUTCOMES", 50)

    def now_here() -> datetime:
        return datetime(2020, 1, 1, tzinfo=UTC)

    @workflow
    async def at_three(ctx: WorkflowContext) -> None:
        while True:
            now = await ctx.step("now", now_here)
            await ctx.sleep_until("03:00", now + DAY)

    durable.start(at_three)
    with pytest.raises(AssertionError, match="brought 50 steps to an end, and it is still 2030"):
        durable.advance(10 * DAY)


def test_an_input_that_is_no_function_of_the_records_is_not_seen(durable: Sandbox) -> None:
    @workflow
    async def unseen(ctx: WorkflowContext) -> None:
        await ctx.step("note", note, random.random())

    durable.run(unseen)


def test_a_result_that_cannot_be_stored_is_an_error_on_replay_too(durable: Sandbox) -> None:
    @workflow
    async def unfit(ctx: WorkflowContext) -> object:
        await ctx.step("first", note)
        return object()

    with pytest.raises(WorkflowCodeError, match="cannot be written as JSON"):
        durable.run(unfit)


def test_a_replay_runs_no_action_and_no_compensation(durable: Sandbox) -> None:
    ran: list[str] = []

    async def run(what: str) -> None:
        ran.append(what)

    def undo(_: None) -> None:
        ran.append("undo")

    @workflow
    async def acts(ctx: WorkflowContext) -> None:
        await ctx.step("one", run, "one", compensate=undo)
        await ctx.sleep("night", DAY)
        await ctx.step("two", fail)

    with pytest.raises(WorkflowFailedError):
        durable.run(acts)
    assert ran == ["one", "undo"]


def test_an_execution_goes_on_with_new_code_after_a_deploy(durable: Sandbox) -> None:
    def at_version(of: Callable[[WorkflowContext], Awaitable[str]]) -> Any:
        async def main(ctx: WorkflowContext) -> str:
            await ctx.step("first", note)
            await ctx.sleep("night", DAY)
            return await of(ctx)

        return workflow(name="story")(main)

    async def old(ctx: WorkflowContext) -> str:
        return "old"

    async def new(ctx: WorkflowContext) -> str:
        return await ctx.step("second", note, "new")

    execution = durable.start(at_version(old))
    durable.restart(at_version(new))
    assert durable.result_of(execution.execution_id) == "new"
