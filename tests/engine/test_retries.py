"""Retries: every attempt is a row, and none is forgotten over a restart."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    RetryPolicy,
    SqliteCheckpointStore,
    StepFailedError,
    StepStatus,
    StepTimeoutError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from tests.lives import Journal, die, live_and_die

QUICK = timedelta(milliseconds=5)


class PaymentError(Exception):
    """Needs more than a message, so it cannot be made of one."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def test_a_step_is_tried_until_it_succeeds_and_each_attempt_is_a_row() -> None:
    runs: list[int] = []

    def flaky() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise ConnectionError(f"attempt {len(runs)}")
        return "done"

    @workflow
    async def retry(ctx: WorkflowContext) -> str:
        return await ctx.step("flaky", flaky, retry=RetryPolicy.fixed(max_attempts=5, delay=QUICK))

    async def life() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            assert await engine.run(retry, execution_id="one") == "done"
            rows = [
                (c.attempt, c.status, c.error_message, c.error_type)
                for c in await store.load_checkpoints("one")
            ]
            assert rows == [
                (1, StepStatus.FAILED, "attempt 1", "builtins:ConnectionError"),
                (2, StepStatus.FAILED, "attempt 2", "builtins:ConnectionError"),
                (3, StepStatus.COMPLETED, None, None),
            ]

    asyncio.run(life())


def test_a_step_that_runs_out_raises_its_own_error() -> None:
    @workflow
    async def fail(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("fail", _raise_payment_error)
        except PaymentError as error:
            return f"caught {error.code}"
        return "not reached"

    async def life() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            assert await engine.run(fail) == "caught 402"

    asyncio.run(life())


def _raise_payment_error() -> None:
    raise PaymentError("declined", 402)


def test_a_replay_raises_the_error_again_as_its_class_and_message(file: Path) -> None:
    class Local(Exception):
        pass

    def raise_local() -> None:
        raise Local("of a class that a new process cannot find")

    caught: list[tuple[type, str]] = []

    @workflow
    async def fail_twice(ctx: WorkflowContext) -> None:
        for name, action in (("found", _raise_payment_error), ("lost", raise_local)):
            try:
                await ctx.step(name, action)
            except Exception as error:
                caught.append((type(error), str(error)))
        await ctx.step("die once", lambda: die() if len(caught) > 0 and first_life else None)

    first_life = True

    async def life() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[fail_twice]) as engine,
        ):
            await engine.run(fail_twice, execution_id="one")

    live_and_die(life)
    first_life = False
    asyncio.run(life())
    assert caught[0] == (PaymentError, "declined")
    assert caught[1][0] is StepFailedError
    assert "of a class that a new process cannot find" in caught[1][1]


def test_attempts_count_over_a_restart_and_the_rest_of_a_back_off_is_kept(
    file: Path, journal: Journal
) -> None:
    policy = RetryPolicy.fixed(max_attempts=3, delay=timedelta(milliseconds=600))

    def fail() -> None:
        journal.note(f"fail at {time.time()}")
        raise ConnectionError("no")

    @workflow
    async def stubborn(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail, retry=policy)

    async def first_life() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(stubborn, execution_id="one")
            while not journal.lines:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # in the back-off
            die()

    async def second_life() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[stubborn]) as engine,
        ):
            with pytest.raises(WorkflowFailedError):
                await engine.run(stubborn, execution_id="one")
            rows = [(c.attempt, c.status) for c in await store.load_checkpoints("one")]
            assert rows == [(n, StepStatus.FAILED) for n in (1, 2, 3)]

    live_and_die(first_life)
    asyncio.run(second_life())
    times = [float(line.removeprefix("fail at ")) for line in journal.lines]
    assert len(times) == 3
    assert times[1] - times[0] >= 0.6


def test_a_step_that_kills_its_process_does_not_start_over_at_attempt_one(
    file: Path, journal: Journal
) -> None:
    def deadly() -> int:
        count = journal.note("deadly")
        if count < 4:
            die()
        return count

    @workflow
    async def dangerous(ctx: WorkflowContext) -> int:
        return await ctx.step("deadly", deadly)

    async def life() -> int:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[dangerous]) as engine,
        ):
            result = await engine.run(dangerous, execution_id="one")
            rows = [(c.attempt, c.status) for c in await store.load_checkpoints("one")]
            assert rows == [
                (1, StepStatus.INTENT),
                (2, StepStatus.INTENT),
                (3, StepStatus.INTENT),
                (4, StepStatus.COMPLETED),
            ]
            return result

    for _ in range(3):
        live_and_die(life)
    assert asyncio.run(life()) == 4


def test_some_errors_are_given_up_on_at_once() -> None:
    runs: list[int] = []

    def fail() -> None:
        runs.append(1)
        raise PaymentError("declined", 402)

    @workflow
    async def give_up(ctx: WorkflowContext) -> None:
        policy = RetryPolicy.fixed(max_attempts=9, delay=QUICK, give_up_on=(PaymentError,))
        await ctx.step("fail", fail, retry=policy)

    async def life() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            with pytest.raises(WorkflowFailedError):
                await engine.run(give_up)

    asyncio.run(life())
    assert runs == [1]


def test_a_timeout_is_per_attempt_and_retried_like_any_failure() -> None:
    runs: list[int] = []

    async def slow_at_first() -> str:
        runs.append(1)
        if len(runs) == 1:
            await asyncio.sleep(60)
        return "in time"

    def stuck() -> None:
        time.sleep(0.3)

    @workflow
    async def timed(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("stuck", stuck, timeout=timedelta(milliseconds=50))
        except StepTimeoutError as error:
            assert error.step_name == "stuck"
        policy = RetryPolicy.fixed(max_attempts=2, delay=QUICK)
        return await ctx.step("slow", slow_at_first, retry=policy, timeout=timedelta(seconds=0.1))

    async def life() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            assert await engine.run(timed, execution_id="one") == "in time"
            types = [c.error_type for c in await store.load_checkpoints("one")]
            timeout = "durable_workflow_sqlite.errors:StepTimeoutError"
            assert types == [timeout, timeout, None]

    asyncio.run(life())
    assert len(runs) == 2


def test_an_actions_own_timeout_error_is_not_taken_for_the_steps() -> None:
    def fail() -> None:
        raise TimeoutError("of the network")

    @workflow
    async def timed(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("fail", fail, timeout=timedelta(seconds=60))
        except TimeoutError as error:
            return f"{type(error).__name__} {error}"
        return "not reached"

    async def life() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
            assert await engine.run(timed) == "TimeoutError of the network"

    asyncio.run(life())


def test_cancel_and_dispose_interrupt_a_back_off_at_once() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> None:
        policy = RetryPolicy.fixed(max_attempts=2, delay=timedelta(hours=1))
        await ctx.step("fail", _raise_payment_error, retry=policy)

    async def life() -> None:
        async with SqliteCheckpointStore.in_memory() as store:
            async with DurableEngine(store) as engine:
                for execution_id in ("cancelled", "left"):
                    await engine.start(patient, execution_id=execution_id)
                await asyncio.sleep(0.1)
                began = time.monotonic()
                assert await engine.cancel("cancelled")
                while (await engine.load("cancelled")).status is not ExecutionStatus.CANCELLED:
                    await asyncio.sleep(0.01)
            assert time.monotonic() - began < 5
            left = await store.load_execution("left")
            assert left is not None
            assert left.status is ExecutionStatus.RUNNING

    asyncio.run(life())


def test_delays_grow_up_to_a_limit() -> None:
    policy = RetryPolicy.exponential(
        max_attempts=9,
        initial_delay=timedelta(seconds=1),
        multiplier=3,
        max_delay=timedelta(seconds=20),
        jitter=0,
    )
    seconds = [policy.delay_after(attempt).total_seconds() for attempt in (1, 2, 3, 4, 5000)]
    assert seconds == [1, 3, 9, 20, 20]


def test_jitter_stays_within_its_part() -> None:
    policy = RetryPolicy.exponential(
        max_attempts=2, initial_delay=timedelta(seconds=10), jitter=0.5
    )
    delays = {policy.delay_after(1).total_seconds() for _ in range(200)}
    assert min(delays) >= 5
    assert max(delays) <= 15
    assert len(delays) > 100


@pytest.mark.parametrize(
    ("policy", "data"),
    [
        (RetryPolicy.none(), {"type": "none"}),
        (
            RetryPolicy.fixed(max_attempts=3, delay=timedelta(seconds=1.5)),
            {"type": "fixed", "maxAttempts": 3, "delayMs": 1500},
        ),
        (
            RetryPolicy.exponential(
                max_attempts=4,
                initial_delay=timedelta(seconds=1),
                multiplier=2.5,
                max_delay=timedelta(minutes=1),
                jitter=0.25,
            ),
            {
                "type": "exponential",
                "maxAttempts": 4,
                "initialDelayMs": 1000,
                "multiplier": 2.5,
                "maxDelayMs": 60000,
                "jitter": 0.25,
            },
        ),
    ],
)
def test_policies_go_to_json_and_back(policy: RetryPolicy, data: dict[str, object]) -> None:
    assert policy.to_json() == data
    assert RetryPolicy.from_json(data) == policy


@pytest.mark.parametrize(
    "data",
    [{}, {"type": "often"}, {"type": "fixed"}, {"type": "fixed", "maxAttempts": 0, "delayMs": 1}],
)
def test_json_that_is_no_policy_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        RetryPolicy.from_json(data)


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 2, "initial_delay": timedelta(-1)},
        {"max_attempts": 2, "multiplier": 0.5},
        {"max_attempts": 2, "multiplier": math.nan},
        {"max_attempts": 2, "jitter": 2},
        {"max_attempts": 2, "give_up_on": (3,)},
    ],
)
def test_policies_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        RetryPolicy.exponential(**options)  # type: ignore[arg-type]


def test_times_are_in_utc() -> None:
    async def life() -> None:
        async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:

            @workflow
            async def one(ctx: WorkflowContext) -> None:
                await ctx.step("a", lambda: None)

            before = datetime.now(UTC)
            await engine.run(one, execution_id="one")
            (step,) = await store.load_checkpoints("one")
            assert step.started_at is not None
            assert step.completed_at is not None
            assert before <= step.started_at <= step.completed_at <= datetime.now(UTC)

    asyncio.run(life())
