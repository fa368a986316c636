"""Retries: every attempt is a row, and none is forgotten over a restart."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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
    WorkflowDefinition,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine.failures import default_error_formatter
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, an_engine, die, run_until_killed, until

QUICK = timedelta(milliseconds=5)


class PaymentError(Exception):
    """Needs more than a message, so it cannot be made of one."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


async def test_a_step_is_tried_until_it_succeeds_and_each_attempt_is_a_row() -> None:
    runs: list[int] = []

    def flaky() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise ConnectionError(f"attempt {len(runs)}")
        return "done"

    @workflow
    async def retry(ctx: WorkflowContext) -> str:
        return await ctx.step("flaky", flaky, retry=RetryPolicy.fixed(max_attempts=5, delay=QUICK))

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


async def test_a_step_that_runs_out_raises_its_own_error() -> None:
    @workflow
    async def fail(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("fail", _raise_payment_error)
        except PaymentError as error:
            return f"caught {error.code}"
        return "not reached"

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(fail) == "caught 402"


def _raise_payment_error() -> None:
    raise PaymentError("declined", 402)


class OfAnyShape(Exception):
    def __init__(self, *args: object, **attributes: object) -> None:
        super().__init__(*args)
        self.__dict__.update(attributes)


def _raise(error: Exception) -> None:
    raise error


def _decode() -> str:
    return b"\xff".decode()


def _open() -> object:
    return Path("/there/is/no/such/file").open()


def _seen(error: Exception) -> tuple[object, ...]:
    return type(error), repr(error.args), str(error), repr(vars(error)), getattr(error, "errno", 0)


@pytest.mark.parametrize(
    "action",
    [
        lambda: _raise(PaymentError("declined", 402)),
        lambda: _raise(OfAnyShape(404, b"x", (1, [2.5, None]), {"a": True}, reason="none")),
        lambda: _raise(KeyError("k")),
        lambda: _raise(ValueError()),
        lambda: _raise(ValueError(None)),
        lambda: _raise(ExceptionGroup("two", [ValueError("a"), PaymentError("b", 3)])),
        _decode,
        _open,
    ],
)
def test_an_error_is_the_same_live_and_on_replay(action: Callable[[], None], file: Path) -> None:
    caught: list[tuple[object, ...]] = []

    @workflow
    async def fail(ctx: WorkflowContext) -> None:
        try:
            await ctx.step("fail", action)
        except Exception as error:
            caught.append(_seen(error))
        await ctx.wait_signal("go")

    asyncio.run(live_twice(file, fail))
    try:
        action()
    except Exception as error:
        assert caught == [_seen(error), _seen(error)]


async def live_twice(
    file: Path,
    definition: WorkflowDefinition[..., Any],
    error_formatter: Callable[[BaseException], str] = default_error_formatter,
) -> None:
    """Run it until it waits for the signal "go", and then, on a replay, to its end."""
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, error_formatter=error_formatter) as engine:
            await engine.start(definition, execution_id="one")
            while (await engine.load("one")).status is not ExecutionStatus.SUSPENDED:
                await asyncio.sleep(0.01)
        async with DurableEngine(store, [definition], error_formatter=error_formatter) as engine:
            await engine.send_signal("one", "go")
            await asyncio.wait_for(engine.handle("one").result(), 10)


def test_what_cannot_be_kept_of_an_error_is_not_seen_live_either(file: Path) -> None:
    class Local(Exception):
        pass

    caught: list[tuple[object, ...]] = []

    @workflow
    async def fail(ctx: WorkflowContext) -> None:
        for error in (OfAnyShape("with a lock", lock=threading.Lock()), Local("of no module")):
            try:
                await ctx.step("fail", _raise, error)
            except Exception as error:
                caught.append(_seen(error))
        await ctx.wait_signal("go")

    asyncio.run(live_twice(file, fail))
    assert caught[:2] == caught[2:]
    assert caught[0] == (OfAnyShape, "('with a lock',)", "with a lock", "{}", 0)
    assert caught[1][0] is StepFailedError
    assert "Local: of no module" in str(caught[1][2])


def test_nothing_but_the_formatted_text_is_kept_of_an_error_with_a_formatter(file: Path) -> None:
    caught: list[tuple[object, ...]] = []

    @workflow
    async def fail(ctx: WorkflowContext) -> None:
        try:
            await ctx.step("fail", _raise, PaymentError("Lovelace declined", 402))
        except Exception as error:
            caught.append(_seen(error))
        await ctx.wait_signal("go")

    asyncio.run(live_twice(file, fail, lambda error: str(error).replace("Lovelace", "***")))
    assert caught == [(PaymentError, "('*** declined',)", "*** declined", "{}", 0)] * 2
    for path in file.parent.glob("workflows.db*"):
        assert b"Lovelace" not in path.read_bytes()


async def test_an_execution_that_fails_with_an_error_of_no_module_is_stored_with_its_class() -> (
    None
):
    class Local(Exception):
        pass

    @workflow
    async def fail(ctx: WorkflowContext) -> None:
        await ctx.step("fail", _raise, Local("no"))

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError, match="no"):
            await engine.run(fail, execution_id="one")
        record = await engine.load("one")
        assert record.error_type is not None
        assert record.error_type.endswith("<locals>.Local")
        assert record.error_message == "no"


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

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(stubborn, execution_id="one")
            await until(lambda: journal.lines)
            await asyncio.sleep(0.1)  # in the back-off
            die()

    async def second_process() -> None:
        async with an_engine(file, workflows=[stubborn]) as (store, engine):
            with pytest.raises(WorkflowFailedError):
                await engine.run(stubborn, execution_id="one")
            rows = [(c.attempt, c.status) for c in await store.load_checkpoints("one")]
            assert rows == [(n, StepStatus.FAILED) for n in (1, 2, 3)]

    run_until_killed(first_process)
    asyncio.run(second_process())
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

    async def main() -> int:
        async with an_engine(file, workflows=[dangerous]) as (store, engine):
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
        run_until_killed(main)
    assert asyncio.run(main()) == 4


async def test_some_errors_are_given_up_on_at_once() -> None:
    runs: list[int] = []

    def fail() -> None:
        runs.append(1)
        raise PaymentError("declined", 402)

    @workflow
    async def give_up(ctx: WorkflowContext) -> None:
        policy = RetryPolicy.fixed(max_attempts=9, delay=QUICK, give_up_on=(PaymentError,))
        await ctx.step("fail", fail, retry=policy)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.run(give_up)
    assert runs == [1]


async def test_a_timeout_is_per_attempt_and_retried_like_any_failure() -> None:
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

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(timed, execution_id="one") == "in time"
        types = [c.error_type for c in await store.load_checkpoints("one")]
        timeout = "durable_workflow_sqlite.errors:StepTimeoutError"
        assert types == [timeout, timeout, None]
    assert len(runs) == 2


async def test_an_actions_own_timeout_error_is_not_taken_for_the_steps() -> None:
    def fail() -> None:
        raise TimeoutError("of the network")

    @workflow
    async def timed(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("fail", fail, timeout=timedelta(seconds=60))
        except TimeoutError as error:
            return f"{type(error).__name__} {error}"
        return "not reached"

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        assert await engine.run(timed) == "TimeoutError of the network"


async def test_cancel_and_dispose_interrupt_a_back_off_at_once() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> None:
        policy = RetryPolicy.fixed(max_attempts=2, delay=timedelta(hours=1))
        await ctx.step("fail", _raise_payment_error, retry=policy)

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store) as engine:
            for execution_id in ("cancelled", "left"):
                await engine.start(patient, execution_id=execution_id)
            await asyncio.sleep(0.1)
            began = time.monotonic()
            assert await engine.cancel("cancelled")
            while (await engine.load("cancelled")).status is not ExecutionStatus.CANCELLED:
                await asyncio.sleep(0.01)
        assert time.monotonic() - began < 60  # and not an hour
        left = await loaded(store, "left")
        assert left.status is ExecutionStatus.RUNNING


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
    [
        None,
        [],
        {},
        {"type": "often"},
        {"type": "fixed"},
        {"type": "fixed", "maxAttempts": 0, "delayMs": 1},
    ],
)
def test_json_that_is_no_policy_is_refused(data: Any) -> None:
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


async def test_times_are_in_utc() -> None:
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


def test_a_first_delay_longer_than_the_usual_longest_one_is_kept() -> None:
    hour = timedelta(hours=1)
    kept = RetryPolicy.exponential(max_attempts=3, initial_delay=hour, jitter=0)
    assert [kept.delay_after(1), kept.delay_after(2)] == [hour, hour]
    usual = RetryPolicy.exponential(max_attempts=None, jitter=0)
    assert usual.delay_after(99) == timedelta(minutes=5)
    told = RetryPolicy.exponential(
        max_attempts=3, initial_delay=hour, max_delay=timedelta(minutes=1), jitter=0
    )
    assert told.delay_after(1) == timedelta(minutes=1)
