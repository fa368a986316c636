"""What can be seen from outside: hooks, log records, states, and what is stored of errors."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableEngineObserver,
    ExecutionStatus,
    NonDeterminismError,
    RecoveryResult,
    RetryPolicy,
    SqliteCheckpointStore,
    StepCheckpoint,
    WorkflowContext,
    WorkflowExecution,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine.failures import default_error_formatter
from durable_workflow_sqlite.testing import ManualClock
from tests.processes import Journal, an_engine, die, run_until_killed, until

QUICK = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=20))


class Recorder(DurableEngineObserver):
    """Writes down every hook that is called."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def of(self, hook: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == hook]

    def on_execution_start(self, execution: WorkflowExecution) -> None:
        self.calls.append(("execution_start", execution.workflow_execution_id))

    def on_execution_resume(self, execution: WorkflowExecution) -> None:
        self.calls.append(("execution_resume", execution.workflow_execution_id))

    def on_execution_complete(self, execution: WorkflowExecution, elapsed: timedelta) -> None:
        self.calls.append(("execution_complete", execution.status, elapsed))

    def on_step_start(self, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
        self.calls.append(("step_start", checkpoint.step_name, checkpoint.attempt, replayed))

    def on_step_complete(
        self, checkpoint: StepCheckpoint, elapsed: timedelta, *, replayed: bool
    ) -> None:
        self.calls.append(
            ("step_complete", checkpoint.step_name, checkpoint.status.value, elapsed, replayed)
        )

    def on_step_retry(
        self, checkpoint: StepCheckpoint, error: BaseException, delay: timedelta
    ) -> None:
        self.calls.append(("step_retry", checkpoint.step_name, str(error), delay))

    def on_step_in_doubt(self, checkpoint: StepCheckpoint) -> None:
        self.calls.append(("step_in_doubt", checkpoint.step_name, checkpoint.attempt))

    def on_compensation_start(self, checkpoint: StepCheckpoint) -> None:
        self.calls.append(("compensation_start", checkpoint.step_name))

    def on_compensation_retry(
        self, checkpoint: StepCheckpoint, error: BaseException, delay: timedelta
    ) -> None:
        self.calls.append(("compensation_retry", checkpoint.step_name, str(error), delay))

    def on_compensation_complete(self, checkpoint: StepCheckpoint, elapsed: timedelta) -> None:
        self.calls.append(("compensation_complete", checkpoint.status.value, elapsed))

    def on_recovery_start(self, count: int) -> None:
        self.calls.append(("recovery_start", count))

    def on_recovery_complete(self, result: RecoveryResult, elapsed: timedelta) -> None:
        self.calls.append(("recovery_complete", result, elapsed))

    def on_status_change(self, execution: WorkflowExecution, before: ExecutionStatus) -> None:
        self.calls.append(("status_change", before.value, execution.status.value))

    def on_error(self, error: BaseException, workflow_execution_id: str | None) -> None:
        self.calls.append(("error", str(error), workflow_execution_id))


def test_every_hook_is_called_and_elapsed_times_are_those_of_the_clock() -> None:
    recorder = Recorder()
    clock = ManualClock()
    tries: list[int] = []

    async def take_20_ms() -> None:
        clock.set(clock.now() + timedelta(milliseconds=20))

    async def flaky() -> str:
        await take_20_ms()
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("not now")
        return "there"

    async def undo(_: object) -> None:
        await take_20_ms()

    @workflow
    async def busy(ctx: WorkflowContext) -> None:
        await ctx.step("flaky", flaky, compensate=undo, retry=QUICK)
        await ctx.sleep("nap", timedelta(seconds=0.05))
        await ctx.wait_signal("go")
        raise ValueError("on purpose")

    async def main() -> None:
        async with (
            SqliteCheckpointStore.in_memory() as store,
            DurableEngine(store, observers=[recorder], clock=clock) as engine,
        ):
            handle = await engine.start(busy, execution_id="one")
            await handle.signal("go")
            ending = asyncio.create_task(handle.result())
            while not ending.done():
                await asyncio.sleep(0)
                if clock.next_deadline is not None:
                    clock.set(clock.next_deadline)
            with pytest.raises(WorkflowFailedError):
                await ending

    asyncio.run(main())
    assert recorder.of("recovery_start") == [(0,)]
    ((result, elapsed),) = recorder.of("recovery_complete")
    assert result == RecoveryResult()
    assert elapsed == timedelta(0)
    assert recorder.of("execution_start") == [("one",)]
    assert recorder.of("step_start") == [
        ("flaky", 1, False),
        ("flaky", 2, False),
        ("nap", 1, False),
        ("go", 1, False),
    ]
    assert recorder.of("step_retry") == [("flaky", "not now", timedelta(milliseconds=20))]
    completed = {name: (status, took) for name, status, took, _ in recorder.of("step_complete")}
    assert {name: status for name, (status, _) in completed.items()} == dict.fromkeys(
        ("flaky", "nap", "go"), "COMPLETED"
    )
    assert completed["flaky"][1] == timedelta(milliseconds=60)  # since its first attempt
    assert completed["nap"][1] == timedelta(milliseconds=50)
    assert recorder.of("compensation_start") == [("flaky:compensate",)]
    ((status, took),) = recorder.of("compensation_complete")
    assert status == "COMPENSATED"
    assert took == timedelta(milliseconds=20)
    ((ending, took),) = recorder.of("execution_complete")
    assert ending is ExecutionStatus.FAILED
    assert took == timedelta(milliseconds=130)
    assert recorder.of("status_change") == [
        ("RUNNING", "SUSPENDED"),
        ("SUSPENDED", "RUNNING"),
        ("RUNNING", "COMPENSATING"),
        ("COMPENSATING", "FAILED"),
    ]


def test_replayed_steps_are_told_too_and_marked_so(file: Path, journal: Journal) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    @workflow
    async def replayed(ctx: WorkflowContext) -> None:
        await ctx.step("good", lambda: 1)
        await ctx.sleep("nap", timedelta(0))
        await ctx.wait_signal("go")
        try:
            await ctx.step("bad", fail)
        except ValueError:
            await ctx.step("doubtful", lambda: die() if journal.note("run") == 1 else None)

    recorder = Recorder()

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(replayed, execution_id="one")
            await handle.signal("go")
            await handle.result()

    async def second_process() -> None:
        async with an_engine(file, workflows=[replayed], observers=[recorder]) as (_, engine):
            await engine.handle("one").result()

    run_until_killed(first_process)
    asyncio.run(second_process())
    assert recorder.of("execution_start") == []
    assert recorder.of("step_start") == [
        ("good", 1, True),
        ("nap", 1, True),
        ("go", 1, True),
        ("bad", 1, True),
        ("doubtful", 2, False),
    ]
    assert [(name, status, again) for name, status, _, again in recorder.of("step_complete")] == [
        ("good", "COMPLETED", True),
        ("nap", "COMPLETED", True),
        ("go", "COMPLETED", True),
        ("bad", "FAILED", True),
        ("doubtful", "COMPLETED", False),
    ]
    assert recorder.of("step_in_doubt") == [("doubtful", 1)]
    ((result, _),) = recorder.of("recovery_complete")
    assert result.resumed == ("one",)


async def test_an_observer_that_raises_is_logged_and_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(DurableEngineObserver):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                raise RuntimeError(f"broken {name}")
            return super().__getattribute__(name)

    recorder = Recorder()

    @workflow
    async def simple(ctx: WorkflowContext) -> int:
        return await ctx.step("one", lambda: 1)

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[Broken(), recorder]) as engine,
    ):
        assert await engine.run(simple) == 1
    assert recorder.of("step_start") == [("one", 1, False)]
    assert "broken on_step_start" in caplog.text


async def test_something_that_is_no_observer_is_refused() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        with pytest.raises(TypeError, match="observer"):
            DurableEngine(store, observers=[print])  # type: ignore[list-item]


async def test_an_error_formatter_is_applied_to_everything_that_is_stored(file: Path) -> None:
    secret = "4111-1111"

    def fail(_: object = None) -> None:
        raise ValueError(f"card {secret} refused")

    @workflow
    async def leaky(ctx: WorkflowContext) -> None:
        await ctx.step("book", lambda: 1, compensate=fail, compensate_retry=RetryPolicy.none())
        await ctx.step("charge", fail, retry=QUICK)

    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(
            store, error_formatter=lambda error: str(error).replace(secret, "****")
        ) as engine,
    ):
        with pytest.raises(WorkflowFailedError):
            await engine.run(leaky, execution_id="one")
        messages = [c.error_message for c in await store.load_checkpoints("one")]
        assert messages.count("card **** refused") == 3  # two attempts, one compensation
        assert (await engine.load("one")).error_message == "card **** refused"
    for path in file.parent.glob("workflows.db*"):
        assert secret.encode() not in path.read_bytes()


async def test_what_is_stored_of_an_error_is_cut_at_a_thousand_characters() -> None:
    def fail() -> None:
        raise ValueError("x" * 5000)

    @workflow
    async def wordy(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.run(wordy, execution_id="one")
        assert len(str((await engine.load("one")).error_message)) == 1000


def test_the_text_of_a_group_of_errors_names_the_errors_in_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(error: Exception) -> None:
        raise error

    @workflow
    async def grouped(ctx: WorkflowContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("fail", fail, ValueError("bad")))

    def text(*errors: Exception) -> str:
        return default_error_formatter(ExceptionGroup("several", errors))

    inner = ExceptionGroup("inner", [KeyError("b"), OSError()])
    assert text(ValueError("a"), inner) == (
        "several (2 sub-exceptions): ValueError: a, KeyError: 'b', OSError"
    )
    assert text(*map(ValueError, "abcde")) == (
        "several (5 sub-exceptions): ValueError: a, ValueError: b, ValueError: c, and 2 more"
    )
    assert len(text(ValueError("x" * 5000))) == 1000
    said = "unhandled errors in a TaskGroup (1 sub-exception): ValueError: bad"

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError) as caught:
                await engine.run(grouped, execution_id="one")
            assert said in str(caught.value)
            assert (await engine.load("one")).error_message == said

    with caplog.at_level(logging.INFO, "durable_workflow_sqlite.engine"):
        asyncio.run(main())
    assert f"execution 'one' ended FAILED: ExceptionGroup: {said}" in caplog.messages


async def test_a_formatter_that_raises_does_not_lose_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    def broken(error: BaseException) -> str:
        raise RuntimeError("broken formatter")

    @workflow
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail)

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, error_formatter=broken) as engine,
    ):
        with pytest.raises(WorkflowFailedError):
            await engine.run(failing, execution_id="one")
        record = await engine.load("one")
        assert record.status is ExecutionStatus.FAILED
        # Nothing of a text that was to be redacted is stored.
        assert record.error_message == "ValueError"
    assert "broken formatter" in caplog.text


async def test_observing_yields_every_state_the_current_one_first() -> None:
    @workflow
    async def changing(ctx: WorkflowContext) -> str:
        await ctx.sleep("nap", timedelta(seconds=0.02))
        await ctx.step("work", lambda: 1)
        return str(await ctx.wait_signal("go"))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(changing, execution_id="one")
        states: list[ExecutionStatus] = []

        async def observe() -> None:
            async for state in engine.observe("one"):
                states.append(state.status)  # noqa: PERF401 - it is looked at meanwhile

        observing = asyncio.create_task(observe())
        while len(states) < 4:  # until it waits for the signal
            await asyncio.sleep(0.01)
        await handle.signal("go", "gone")
        await asyncio.wait_for(observing, 30)
        assert states == [
            ExecutionStatus.RUNNING,
            ExecutionStatus.SUSPENDED,
            ExecutionStatus.RUNNING,
            ExecutionStatus.SUSPENDED,
            ExecutionStatus.RUNNING,
            ExecutionStatus.COMPLETED,
        ]
        assert [s.status async for s in engine.observe("one")] == [ExecutionStatus.COMPLETED]


async def test_observing_works_from_another_engine(file: Path) -> None:
    @workflow
    async def waiter(ctx: WorkflowContext) -> str:
        return str(await ctx.wait_signal("go"))

    async with (
        SqliteCheckpointStore.file(file) as store,
        SqliteCheckpointStore.file(file) as other_store,
        DurableEngine(store) as engine,
        DurableEngine(other_store) as other,
    ):
        await engine.start(waiter, execution_id="one")
        states: list[ExecutionStatus] = []
        async with asyncio.timeout(30):
            async for state in other.observe("one"):
                states.append(state.status)
                if state.status is ExecutionStatus.SUSPENDED:
                    await other.send_signal("one", "go", 1)
        assert states[-2:] in (
            [ExecutionStatus.SUSPENDED, ExecutionStatus.COMPLETED],
            [ExecutionStatus.RUNNING, ExecutionStatus.COMPLETED],
        )


async def test_an_observation_ends_with_an_error_when_its_engine_stops() -> None:
    @workflow
    async def waiter(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go")

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store) as engine:
            await engine.start(waiter, execution_id="one")

            async def observe() -> None:
                async for _ in engine.observe("one"):
                    pass

            observing = asyncio.create_task(observe())
            await asyncio.sleep(0.05)
        with pytest.raises(Exception, match="disposed"):
            await asyncio.wait_for(observing, 30)


def test_log_records_carry_execution_step_and_attempt(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    @workflow
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.branch("side").step("fail", fail, retry=QUICK)

    async def main() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(failing, execution_id="one")

    with caplog.at_level(logging.INFO, "durable_workflow_sqlite"):
        asyncio.run(main())
    of_steps = [record for record in caplog.records if hasattr(record, "step_name")]
    assert [
        (r.workflow_execution_id, r.step_name, r.branch, r.step_index, r.attempt)  # type: ignore[attr-defined]
        for r in of_steps
    ] == [("one", "fail", "side", 0, 1), ("one", "fail", "side", 0, 2)]
    assert all(record.name.startswith("durable_workflow_sqlite.") for record in caplog.records)


async def test_a_process_after_the_first_is_told_as_such(file: Path) -> None:
    @workflow
    async def waiter(ctx: WorkflowContext) -> str:
        await ctx.step("first", lambda: 1)
        return await ctx.wait_signal("go", type=str)

    recorders = [Recorder(), Recorder()]
    for recorder in recorders:
        async with an_engine(file, workflows=[waiter], observers=[recorder]) as (_, engine):
            handle = await engine.start(waiter, execution_id="one")
            if recorder is recorders[-1]:
                await handle.signal("go", "gone")
                assert await handle.result() == "gone"
            else:
                await asyncio.sleep(0.05)
    told = [
        (recorder.of("execution_start"), recorder.of("execution_resume")) for recorder in recorders
    ]
    assert told == [([("one",)], []), ([], [("one",)])]


async def test_a_compensation_that_is_tried_again_says_so() -> None:
    attempts: list[int] = []

    def undo(number: int) -> None:
        attempts.append(number)
        if len(attempts) == 1:
            raise OSError("no line")

    def fail() -> None:
        raise ValueError("on purpose")

    @workflow
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step("do", lambda: 1, compensate=undo, compensate_retry=QUICK)
        await ctx.step("fail", fail)

    recorder = Recorder()

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[recorder]) as engine,
    ):
        with pytest.raises(WorkflowFailedError):
            await engine.run(failing)
    of_compensations = [call[:2] for call in recorder.calls if call[0].startswith("compensation")]
    assert of_compensations == [
        ("compensation_start", "do:compensate"),
        ("compensation_retry", "do:compensate"),
        ("compensation_start", "do:compensate"),
        ("compensation_complete", "COMPENSATED"),
    ]


def test_the_log_tells_the_whole_story_over_a_restart(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def ship() -> None:
        raise ValueError("no truck")

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("charge", lambda: 1, compensate=lambda _: None)
        await ctx.wait_signal("approved")
        await ctx.sleep("cooling-off", timedelta(seconds=0.02))
        await ctx.step("ship", ship, retry=QUICK)

    async def main() -> None:
        async with an_engine(file, workflows=[order]) as (_, engine):
            await engine.start(order, execution_id="one")
            await until(
                lambda: any(one.getMessage().endswith("order@1 waits") for one in caplog.records)
            )
        async with an_engine(file, workflows=[order]) as (_, engine):
            await engine.send_signal("one", "approved")
            with pytest.raises(WorkflowFailedError):
                await engine.handle("one").result()

    with caplog.at_level(logging.DEBUG, "durable_workflow_sqlite"):
        asyncio.run(main())
    times = re.compile(r"(\d{4}-\d\d-\d\d )?\d+:\d\d:\d\d\.\d+(\+00:00)?")
    story = [(one.levelname, times.sub("T", one.getMessage())) for one in caplog.records]
    start, resume = (
        ("DEBUG", f"execution 'one' of order@1 {what}") for what in ("starts", "is claimed again")
    )
    assert story[: story.index(resume)] == [
        start,
        ("DEBUG", "step 'charge' of execution 'one': attempt 1"),
        ("DEBUG", "step 'charge' of execution 'one' completed after T"),
        ("DEBUG", "wait for signal 'approved' of execution 'one', until it comes"),
        ("DEBUG", "execution 'one' of order@1 waits"),
    ]
    later = [line for line in story[story.index(resume) :] if not line[1].startswith("recovery")]
    assert [line for line in later if line[1] != "execution 'one' of order@1 waits"] == [
        resume,
        ("DEBUG", "wait for signal 'approved' of execution 'one', until it comes"),
        ("DEBUG", "wait 'approved' of execution 'one' completed after T"),
        ("DEBUG", "sleep 'cooling-off' of execution 'one', until T"),
        ("DEBUG", "wait 'cooling-off' of execution 'one' completed after T"),
        ("DEBUG", "step 'ship' of execution 'one': attempt 1"),
        ("INFO", "step 'ship' of execution 'one' failed at attempt 1, retrying in T: no truck"),
        ("DEBUG", "step 'ship' of execution 'one': attempt 2"),
        ("WARNING", "step 'ship' of execution 'one' failed for good at attempt 2: no truck"),
        ("DEBUG", "execution 'one' of order@1 begins to undo its steps"),
        ("DEBUG", "step 'charge' of execution 'one': its compensation begins"),
        ("DEBUG", "step 'charge' of execution 'one' was undone after T"),
        ("WARNING", "execution 'one' ended FAILED: ValueError: no truck"),
    ]
    assert all(
        record.workflow_execution_id == "one"  # type: ignore[attr-defined]
        for record in caplog.records
        if "'one'" in record.getMessage()
    )


async def test_no_state_is_told_of_before_it_is_committed(file: Path) -> None:
    told: list[ExecutionStatus] = []

    class Listening(DurableEngineObserver):
        def on_status_change(self, execution: WorkflowExecution, before: ExecutionStatus) -> None:
            told.append(execution.status)

    lock = sqlite3.connect(file, isolation_level=None)

    @workflow
    async def ends_while_locked(ctx: WorkflowContext) -> None:
        await ctx.step("one", lambda: 1)
        lock.execute("begin immediate")

    async with an_engine(file, observers=[Listening()]) as (_, engine):
        handle = await engine.start(ends_while_locked)
        states = engine.observe(handle.execution_id)
        assert (await anext(states)).status is ExecutionStatus.RUNNING
        coming = asyncio.ensure_future(anext(states))
        await asyncio.sleep(0.3)
        assert lock.in_transaction
        assert told == []
        assert not coming.done()
        lock.execute("rollback")
        assert (await coming).status is ExecutionStatus.COMPLETED
        assert told == [ExecutionStatus.COMPLETED]
    lock.close()


async def test_an_error_whose_text_is_no_utf8_is_stored_escaped_and_undoes_what_was_done() -> None:
    undone: list[int] = []

    @workflow
    async def fail(ctx: WorkflowContext) -> None:
        await ctx.step("one", lambda: 1, compensate=undone.append)
        raise ValueError("no file \udcff")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.run(fail, execution_id="one")
        assert (await engine.load("one")).error_message == "no file \\udcff"
    assert undone == [1]


async def test_observers_and_formatters_that_are_cancelled_from_within_harm_nothing() -> None:
    class Cancelled(DurableEngineObserver):
        def on_step_start(self, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
            raise asyncio.CancelledError

    def cancelled(error: BaseException) -> str:
        raise asyncio.CancelledError

    @workflow
    async def fail(ctx: WorkflowContext) -> None:
        await ctx.step("one", lambda: 1)
        raise ValueError("a secret")

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[Cancelled()], error_formatter=cancelled) as engine,
    ):
        with pytest.raises(WorkflowFailedError):
            await asyncio.wait_for(engine.run(fail, execution_id="one"), 30)
        record = await engine.load("one")
        assert record.status is ExecutionStatus.FAILED
        assert record.error_message == "ValueError"


def test_an_error_of_the_library_is_kept_in_full() -> None:
    assert default_error_formatter(NonDeterminismError("x" * 5000)) == "x" * 5000
    assert len(default_error_formatter(NonDeterminismError("x" * 20_000))) == 10_000
