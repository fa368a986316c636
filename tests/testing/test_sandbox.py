"""A sandbox: workflows for real, in a time that the test moves."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime

import pytest

from durable_workflow_sqlite import (
    ExecutionFinishedError,
    ExecutionStatus,
    NewSignal,
    NonDeterminismError,
    RetryPolicy,
    SignalResult,
    SignalTimeoutError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowExpiredError,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing import Sandbox
from tests.testing.notes import DAY, note, noted, undo


@workflow
async def monthly(ctx: WorkflowContext, days: int) -> int:
    for day in range(days):
        await ctx.sleep(f"day {day}", DAY)
        await ctx.step(f"note {day}", note, str(day))
    return days


@workflow
async def approval(ctx: WorkflowContext, what: str) -> str:
    await ctx.step("ask", note, what, compensate=undo)
    return f"{what}: {await ctx.wait_signal('decision', timeout=7 * DAY, type=str)}"


def test_a_month_with_actions_in_threads_passes_at_once(durable: Sandbox) -> None:
    began_at = time.monotonic()
    assert durable.run(monthly, 30) == 30
    assert time.monotonic() - began_at < 10
    assert noted == [str(day) for day in range(30)]
    assert durable.now == datetime(2030, 1, 31, tzinfo=UTC)


def test_time_stops_at_every_deadline_until_its_action_has_ended(durable: Sandbox) -> None:
    execution = durable.start(monthly, 10)
    durable.advance(3.5 * DAY)
    assert noted == ["0", "1", "2"]
    assert durable.now == datetime(2030, 1, 4, 12, tzinfo=UTC)
    assert execution.status() is ExecutionStatus.SUSPENDED
    assert execution.history()[-1] == "day 3 (sleeping)"


def test_a_deadline_right_at_the_end_of_advance_is_met(durable: Sandbox) -> None:
    execution = durable.start(monthly, 1)
    durable.advance(DAY)
    assert execution.status() is ExecutionStatus.COMPLETED


def test_executions_are_named_after_their_workflow(durable: Sandbox) -> None:
    ids = [durable.start(monthly, 0).execution_id for _ in range(2)]
    assert ids == ["monthly-1", "monthly-2"]
    assert durable.start(approval, "x", execution_id="mine").execution_id == "mine"


def test_a_signal_is_sent_at_once(durable: Sandbox) -> None:
    execution = durable.start(approval, "a plant")
    execution.signal("decision", "yes")
    assert execution.result() == "a plant: yes"


def test_a_signal_is_sent_at_its_time(durable: Sandbox) -> None:
    durable.signal_at(datetime(2030, 1, 3, tzinfo=UTC), "decision", "on time")
    assert durable.run(approval, "a plant") == "a plant: on time"
    assert durable.now == datetime(2030, 1, 3, tzinfo=UTC)


def test_a_signal_that_was_planned_and_never_sent_is_an_error() -> None:
    durable = Sandbox()
    durable.signal_at(30 * DAY, "decision", "late")
    durable.run(monthly, 1)
    durable.close()
    with pytest.raises(AssertionError, match="signal 'decision' at 2030-01-31"):
        durable.check()


def test_a_signal_without_an_addressee_asks_for_one() -> None:
    durable = Sandbox()
    durable.start(approval, "a plant")
    durable.start(approval, "a piano")
    durable.signal_at(DAY, "decision", "yes")
    with pytest.raises(AssertionError, match="there are: 'approval-1', 'approval-2'"):
        durable.advance(DAY)
    durable.close()


def test_a_wait_is_answered_so_long_after_it_was_reached(durable: Sandbox) -> None:
    durable.signal_when_awaited("decision", "yes", after=2 * DAY)
    durable.signal_when_awaited("decision", "no", after=3 * DAY)
    assert durable.run(approval, "a plant") == "a plant: yes"
    assert durable.run(approval, "a piano") == "a piano: no"
    assert durable.now == datetime(2030, 1, 6, tzinfo=UTC)


def test_an_answer_for_one_execution_is_not_given_to_another(durable: Sandbox) -> None:
    durable.signal_when_awaited("decision", "yes", execution_id="second")
    first = durable.start(approval, "a plant", execution_id="first")
    assert durable.run(approval, "a piano", execution_id="second") == "a piano: yes"
    assert first.status() is ExecutionStatus.SUSPENDED


def test_a_wait_times_out_by_the_clock(durable: Sandbox) -> None:
    with pytest.raises(WorkflowFailedError) as raised:
        durable.run(approval, "a plant")
    assert isinstance(raised.value.__cause__, SignalTimeoutError)
    assert durable.history() == ["ask", "decision (timed out)", "ask (undone)"]
    assert durable.now == datetime(2030, 1, 8, tzinfo=UTC)


def test_an_execution_is_cancelled_at_a_time(durable: Sandbox) -> None:
    durable.cancel_at(DAY)
    with pytest.raises(WorkflowCancelledError):
        durable.run(approval, "a plant")
    assert noted == ["a plant", "not a plant"]
    assert durable.history() == ["ask", "decision (cut off)", "ask (undone)"]


def test_a_time_to_live_goes_by_the_clock(durable: Sandbox) -> None:
    with pytest.raises(WorkflowExpiredError):
        durable.run(monthly, 30, ttl=5.5 * DAY)
    assert noted == ["0", "1", "2", "3", "4"]


def test_back_offs_go_by_the_clock(durable: Sandbox) -> None:
    tried: list[datetime] = []

    def flaky() -> int:
        tried.append(durable.now)
        if len(tried) < 3:
            raise ConnectionError("busy")
        return len(tried)

    @workflow
    async def patient(ctx: WorkflowContext) -> int:
        return await ctx.step("try", flaky, retry=RetryPolicy.fixed(max_attempts=3, delay=DAY))

    assert durable.run(patient) == 3
    assert [time - tried[0] for time in tried] == [0 * DAY, DAY, 2 * DAY]
    busy = "try (failed: ConnectionError: busy)"
    assert durable.history() == [busy, busy, "try"]


def test_results_come_back_as_their_types(durable: Sandbox) -> None:
    @workflow
    async def tomorrow(ctx: WorkflowContext, today: datetime) -> datetime:
        return today + DAY

    assert durable.run(tomorrow, durable.now) == datetime(2030, 1, 2, tzinfo=UTC)


def test_branches_run_side_by_side(durable: Sandbox) -> None:
    async def one(ctx: WorkflowContext, name: str) -> None:
        await ctx.sleep("wait", len(name) * DAY)
        await ctx.step("note", note, name)

    @workflow
    async def both(ctx: WorkflowContext) -> None:
        await asyncio.gather(*(one(ctx.branch(name), name) for name in ("slow", "in")))

    durable.run(both)
    assert noted == ["in", "slow"]
    assert durable.history() == ["slow/wait", "in/wait", "in/note", "slow/note"]


def test_a_wait_that_nobody_will_end_says_so(durable: Sandbox) -> None:
    @workflow
    async def lonely(ctx: WorkflowContext) -> None:
        await ctx.step("ask", note, "anybody?")
        await ctx.wait_signal("answer")

    with pytest.raises(AssertionError) as raised:
        durable.run(lonely)
    assert str(raised.value) == (
        "execution 'lonely-1' is SUSPENDED, and nothing is to come: it waits for signal 'answer'."
        " Send it, or plan it with signal_when_awaited. It was:\n    ask\n    answer (waiting)"
    )


def test_a_workflow_without_an_end_says_so(
    durable: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_workflow_sqlite.testing.simulation.MOST_STOPS", 20)

    @workflow
    async def for_ever(ctx: WorkflowContext) -> None:
        while True:
            await ctx.sleep("a day", DAY)

    with pytest.raises(AssertionError, match="20 deadlines have passed, and it is 2030-01-2"):
        durable.run(for_ever)


def test_an_action_that_hangs_is_named() -> None:
    release = threading.Event()

    @workflow
    async def stuck(ctx: WorkflowContext) -> None:
        await ctx.step("hang", release.wait)

    with Sandbox(patience=0.05) as durable:
        execution = durable.start(stuck)
        with pytest.raises(AssertionError, match="step 'hang' of execution 'stuck-1' still runs"):
            execution.status()
        release.set()
        assert execution.status() is ExecutionStatus.COMPLETED


def test_changed_code_is_deployed_and_refused_where_it_does_not_match(durable: Sandbox) -> None:
    @workflow(name="greet")
    async def before(ctx: WorkflowContext) -> str:
        await ctx.sleep("wait", DAY)
        return "done"

    @workflow(name="greet")
    async def after(ctx: WorkflowContext) -> str:
        await ctx.sleep("pause", DAY)
        return "done"

    execution = durable.start(before)
    durable.restart(after)
    with pytest.raises(NonDeterminismError, match="'wait'"):
        execution.result()
    durable.restart(before)
    assert execution.result() == "done"


def test_what_is_enqueued_begins_when_its_delay_is_over(durable: Sandbox) -> None:
    later = durable.enqueue(monthly, 1, delay=3 * DAY)
    now = durable.enqueue(monthly, 0)
    assert now.status() is ExecutionStatus.COMPLETED
    assert later.status() is ExecutionStatus.PENDING
    assert later.result() == 1
    assert durable.now == datetime(2030, 1, 5, tzinfo=UTC)


def test_the_engine_may_be_asked_for_anything(durable: Sandbox) -> None:
    attempts: list[str] = []

    def fails_once() -> None:
        attempts.append("tried")
        if len(attempts) == 1:
            raise RuntimeError("not yet")

    @workflow
    async def once(ctx: WorkflowContext) -> None:
        await ctx.step("try", fails_once)

    with pytest.raises(WorkflowFailedError):
        durable.run(once, execution_id="one")
    durable.crash_at("try", "after")
    durable.ask(lambda engine: engine.retry("one"))
    durable.execution("one").result()
    assert len(attempts) == 3


@pytest.mark.campaign
def test_hundreds_of_executions_go_on_after_a_crash(durable: Sandbox) -> None:
    executions = [durable.start(monthly, 2) for _ in range(300)]
    durable.crash()
    durable.advance(2 * DAY)
    assert {one.status() for one in executions[::50]} == {ExecutionStatus.COMPLETED}
    assert len(noted) == 600


def test_a_restart_is_no_crash(durable: Sandbox) -> None:
    execution = durable.start(approval, "a plant")
    durable.restart()
    durable.signal_when_awaited("decision", "yes")
    assert execution.result() == "a plant: yes"
    assert noted == ["a plant"]
    assert durable.crashes == []


async def test_a_sandbox_is_refused_where_an_event_loop_runs(durable: Sandbox) -> None:
    with pytest.raises(RuntimeError, match="take AsyncSandbox"):
        durable.run(monthly, 1)


def test_two_sandboxes_know_nothing_of_each_other() -> None:
    with Sandbox() as one, Sandbox(start_at=datetime(2020, 1, 1, tzinfo=UTC)) as other:
        assert one.run(monthly, 1) == other.run(monthly, 1) == 1
        assert (one.now.year, other.now.year) == (2030, 2020)


def test_signals_are_given_as_to_an_engine() -> None:
    @workflow
    async def takes(ctx: WorkflowContext) -> object:
        return await ctx.wait_signal("go")

    with Sandbox() as durable:
        sent = [NewSignal("go", 7, key="mail")]
        assert durable.run(takes, signals=sent) == 7
        started = durable.start(takes, signals=sent)
        queued = durable.enqueue(takes, signals=sent)
        assert started.signal("go", 7, key="mail") is SignalResult.DUPLICATE
        assert (started.result(), queued.result()) == (7, 7)
        with pytest.raises(ExecutionFinishedError):
            queued.signal("go", 8, key="other")


def test_tags_are_given_as_to_an_engine() -> None:
    with Sandbox() as durable:
        durable.run(monthly, 0, execution_id="ran", tags={"by": "run"})
        durable.start(monthly, 0, execution_id="started", tags={"by": "start"})
        durable.enqueue(monthly, 0, execution_id="queued", tags={"by": "enqueue"})

        def by(one: str) -> dict[str, str]:
            return durable.ask(lambda engine: engine._settings.store.load_tags(one))

        assert [by(one)["by"] for one in ("ran", "started", "queued")] == [
            "run",
            "start",
            "enqueue",
        ]


@workflow
async def doubled(ctx: WorkflowContext, number: int) -> int:
    return await ctx.step("double", lambda: 2 * number)


@workflow
async def all_doubled(ctx: WorkflowContext, count: int) -> int:
    return sum(await ctx.map("double", doubled, range(count), max_concurrency=3))


def test_a_sandbox_runs_the_children_of_a_workflow() -> None:
    for _ in range(3):
        with Sandbox([all_doubled, doubled]) as sandbox:
            assert sandbox.run(all_doubled, 30) == 2 * sum(range(30))
