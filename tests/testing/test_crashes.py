"""Crashes in place: the process dies at a step, nothing of it goes on, and the next recovers."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ExecutionBlockedError,
    ExecutionStatus,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing import AsyncSandbox, Sandbox
from durable_workflow_sqlite.testing.simulated_process import Moment
from tests.testing.notes import DAY, note, note_async, noted, undo


async def fail() -> None:
    noted.append("fail")
    raise RuntimeError("the truck broke down")


@workflow
async def chain(ctx: WorkflowContext) -> str:
    first = await ctx.step("first", note, "first")
    await ctx.sleep("night", DAY)
    return first + await ctx.step("second", note_async, "second")


@workflow
async def saga(ctx: WorkflowContext) -> None:
    await ctx.step("pay", note, "pay", compensate=undo)
    await ctx.step("ship", fail)


@pytest.mark.parametrize("step", ["first", "second"])
@pytest.mark.parametrize(
    ("moment", "times", "is_in_doubt"),
    [("before", 1, True), ("after", 2, True), ("recorded", 1, False)],
)
def test_how_often_an_action_runs_is_told_by_the_moment_of_the_crash(
    durable: Sandbox, step: str, moment: Moment, times: int, is_in_doubt: bool
) -> None:
    durable.crash_at(step, moment)
    assert durable.run(chain) == "firstsecond"
    assert durable.crashes == [f"{moment} {step}"]
    assert noted.count(step) == times
    assert (f"{step} (in doubt)" in durable.history()) is is_in_doubt
    durable.history().assert_ran(step, times=2 if is_in_doubt else 1)


@pytest.mark.parametrize("moment", ["before", "after", "recorded"])
def test_a_sleep_keeps_its_deadline_over_a_crash(durable: Sandbox, moment: Moment) -> None:
    durable.crash_at("night", moment)
    durable.run(chain)
    assert durable.now == datetime(2030, 1, 2, tzinfo=UTC)
    assert noted == ["first", "second"]


def test_a_timer_of_asyncio_can_be_crashed_at_when_it_has_fired(durable: Sandbox) -> None:
    @workflow
    async def nap(ctx: WorkflowContext) -> str:
        await asyncio.sleep(60)
        return await ctx.step("wake", lambda: "awake")

    durable.crash_at("timer", "recorded")
    assert durable.run(nap) == "awake"
    assert durable.crashes == ["recorded timer"]
    assert durable.history() == ["wake"]


def test_a_process_that_is_down_for_long_is_late(durable: Sandbox) -> None:
    durable.crash_at("night", "before", down_for=30 * DAY)
    durable.run(chain)
    assert durable.now == datetime(2030, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(("moment", "undone"), [("before", 1), ("after", 2), ("recorded", 1)])
def test_a_compensation_can_be_crashed_at(durable: Sandbox, moment: Moment, undone: int) -> None:
    durable.crash_at("pay:compensate", moment)
    with pytest.raises(WorkflowFailedError, match="the truck broke down"):
        durable.run(saga)
    assert noted == ["pay", "fail", *["not pay"] * undone]
    durable.history().assert_undone("pay")


def test_an_action_that_fails_can_be_crashed_at(durable: Sandbox) -> None:
    durable.crash_at("ship", "after")
    with pytest.raises(WorkflowFailedError):
        durable.run(saga)
    assert noted == ["pay", "fail", "fail", "not pay"]


def test_a_step_that_always_kills_its_process_is_blocked(durable: Sandbox) -> None:
    durable.crash_at("first", "before", times=11)
    with pytest.raises(ExecutionBlockedError, match="blocked: its worker died 11 times in a row"):
        durable.run(chain)
    assert durable.crashes == ["before first"] * 11
    assert noted == []


def test_crashes_at_every_step_one_after_the_other(durable: Sandbox) -> None:
    for step in ("first", "night", "second"):
        for moment in ("before", "after", "recorded"):
            durable.crash_at(step, moment)
    assert durable.run(chain) == "firstsecond"
    assert len(durable.crashes) == 9


def test_nothing_of_the_dead_goes_on() -> None:
    went_on: list[str] = []

    async def linger(ctx: WorkflowContext) -> None:
        try:
            await ctx.step("linger", asyncio.sleep, 0.01)
        except BaseException:
            went_on.append("except")
            raise
        finally:
            went_on.append("finally")

    @workflow
    async def busy(ctx: WorkflowContext) -> None:
        await asyncio.gather(linger(ctx.branch("a")), chain_in(ctx.branch("b")))

    async def chain_in(ctx: WorkflowContext) -> None:
        await ctx.step("quick", note_async, "quick")

    with Sandbox(check_replay=False) as durable:
        durable.crash_at("quick", "after")
        durable.run(busy)
        assert went_on == ["finally"]  # once: of the second process, whose step came to its end
        assert durable.history().count("a/linger (in doubt)") == 1


def test_a_thread_of_the_dead_is_over_before_the_next_process_begins(durable: Sandbox) -> None:
    running: list[int] = []
    most: list[int] = []

    def slowly() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()

    async def quickly() -> None:
        await asyncio.sleep(0.01)

    @workflow
    async def both(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.step("slow", slowly), ctx.step("quick", quickly))

    durable.crash_at("quick", "after")
    durable.run(both)
    assert most == [1, 1]
    assert durable.history() == ["slow (in doubt)", "quick (in doubt)", "slow", "quick"]


def test_a_thread_of_the_dead_that_does_not_end_is_told_of() -> None:
    release = threading.Event()

    @workflow
    async def stuck(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.step("hang", release.wait), ctx.step("quick", note_async, "quick"))

    with Sandbox(patience=0.05) as durable:
        durable.crash_at("quick", "after")
        with pytest.raises(AssertionError, match="a thread cannot be killed"):
            durable.run(stuck)
        release.set()
        durable.settle()
        assert durable.status() is ExecutionStatus.COMPLETED


def test_a_crash_on_demand_comes_when_all_is_done(durable: Sandbox) -> None:
    execution = durable.start(chain)
    durable.crash()
    durable.crash(down_for=timedelta(hours=1))
    assert noted == ["first"]
    assert execution.status() is ExecutionStatus.SUSPENDED
    assert durable.now == datetime(2030, 1, 1, 1, tzinfo=UTC)
    assert execution.result() == "firstsecond"
    assert execution.history() == ["first", "night", "second"]


def test_a_crash_of_one_execution_takes_the_others_along(durable: Sandbox) -> None:
    one, two = durable.start(chain), durable.start(chain)
    durable.crash_at("second", "before", execution_id="chain-2")
    assert (one.result(), two.result()) == ("firstsecond", "firstsecond")
    assert "second (in doubt)" in two.history()
    assert durable.crashes == ["before second"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no eager tasks")
@pytest.mark.parametrize("moment", ["before", "after", "recorded"])
async def test_an_eager_task_factory_of_the_program_changes_nothing(moment: Moment) -> None:
    loop: Any = asyncio.get_running_loop()
    loop.set_task_factory(vars(asyncio)["eager_task_factory"])
    async with AsyncSandbox() as durable:
        durable.crash_at("second", moment)
        assert await durable.run(chain) == "firstsecond"
        assert durable.crashes == [f"{moment} second"]


def test_a_crash_that_never_comes_is_an_error() -> None:
    def main() -> None:
        with Sandbox() as durable:
            durable.crash_at("frist", "before")
            durable.run(chain)

    with pytest.raises(AssertionError, match="never happened:\n    a crash before step 'frist'"):
        main()


def test_a_moment_that_is_none_is_refused(durable: Sandbox) -> None:
    with pytest.raises(ValueError, match="'before' or 'after' or 'recorded', not 'during'"):
        durable.crash_at("first", "during")  # type: ignore[arg-type]


def test_the_same_story_has_the_same_history_every_time() -> None:
    def main() -> tuple[list[str], datetime]:
        with Sandbox() as durable:
            durable.crash_at("first", "after")
            durable.crash_at("night", "before", down_for=timedelta(hours=30))
            durable.run(chain)
            return durable.history(), durable.now

    assert main() == main() == main()


@pytest.mark.parametrize("moment", ["before", "after", "recorded"])
def test_a_planned_signal_arrives_once_though_the_process_dies_over_it(
    durable: Sandbox, moment: Moment
) -> None:
    @workflow
    async def listener(ctx: WorkflowContext) -> list[str]:
        heard = [await ctx.wait_signal("news", type=str)]
        heard.append(await ctx.step("repeat", note_async, heard[0]))
        return [*heard, await ctx.wait_signal("news", type=str)]

    durable.crash_at("repeat", moment)
    durable.crash_at("news", "recorded")
    durable.signal_when_awaited("news", "one")
    durable.signal_at(DAY, "news", "two")
    assert durable.run(listener) == ["one", "one", "two"]
