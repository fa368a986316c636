"""One execution, replayed beside any engine by the code at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    ErrorClassNotFoundError,
    ExecutionStatus,
    NonDeterminismError,
    NonDeterministicCallError,
    SerializationError,
    StepCheckpoint,
    WorkflowContext,
    WorkflowExecution,
    workflow,
)
from durable_workflow_sqlite.engine.checking import check_replay
from durable_workflow_sqlite.testing import AsyncSandbox
from durable_workflow_sqlite.testing.contract_base import loaded

HOUR = timedelta(hours=1)
Function = Callable[[WorkflowContext], Coroutine[Any, Any, Any]]
Records = tuple[WorkflowExecution, list[StepCheckpoint]]


async def note(what: object = None) -> str:
    return str(what)


async def fail() -> None:
    raise KeyError("no")


async def one_step(ctx: WorkflowContext) -> str:
    return await ctx.step("one", note, 1)


async def two_steps(ctx: WorkflowContext) -> str:
    return await ctx.step("one", note, 1) + await ctx.step("two", note, 2)


async def two_kept(ctx: WorkflowContext) -> str:
    """As `two_steps`, in other words."""
    texts = [await ctx.step(name, note, number + 1) for number, name in enumerate(("one", "two"))]
    return "".join(texts)


async def one_more(ctx: WorkflowContext) -> str:
    await two_steps(ctx)
    return await ctx.step("three", note, 12)


async def other_result(ctx: WorkflowContext) -> str:
    return await two_steps(ctx) + "!"


async def raises(ctx: WorkflowContext) -> str:
    raise ValueError(await two_steps(ctx))


async def raises_otherwise(ctx: WorkflowContext) -> str:
    raise KeyError(await two_steps(ctx))


async def unawaited(ctx: WorkflowContext) -> str:
    text = await two_steps(ctx)
    ctx.step("three", note, 3)
    return text


async def sleeps(ctx: WorkflowContext) -> str:
    await ctx.step("one", note, 1)
    await ctx.sleep("nap", HOUR)
    return "rested"


async def sleeps_shorter(ctx: WorkflowContext) -> str:
    await ctx.step("one", note, 1)
    await ctx.sleep("nap", HOUR / 2)
    return "hardly rested"


async def waits(ctx: WorkflowContext) -> str:
    await ctx.step("one", note, 1)
    await ctx.wait_signal("nap", timeout=HOUR)
    return "woken"


async def sleeps_and_waits(ctx: WorkflowContext) -> str:
    await ctx.step("one", note, 1)
    await asyncio.gather(ctx.sleep("nap", HOUR), ctx.branch("b").wait_signal("wake"))
    return "woken"


async def gives_up(ctx: WorkflowContext) -> None:
    await ctx.step("one", note, 1)
    nap = asyncio.create_task(ctx.sleep("nap", HOUR))
    await asyncio.sleep(0)
    nap.cancel()
    await asyncio.sleep(3600)


async def naps_for(ctx: WorkflowContext) -> None:
    await ctx.sleep_until("nap", ctx.now() + HOUR)


async def naps_for_longer(ctx: WorkflowContext) -> None:
    await ctx.sleep_until("nap", ctx.now() + 2 * HOUR)


async def opens_a_socket(ctx: WorkflowContext) -> None:
    await ctx.step("one", note, 1)
    await asyncio.open_connection("localhost", 1)


def recorded(function: Function, *, until: str = "") -> Records:
    """What is recorded of an execution that has ended, or that rests."""
    definition = workflow(name="story")(function)

    async def main() -> Records:
        async with AsyncSandbox() as durable:
            execution = await durable.start(definition)
            if not until:
                await asyncio.wait([asyncio.ensure_future(execution.result())])
            await durable.settle()
            found = await loaded(durable.store, "story-1")
            if until:
                found = msgspec.structs.replace(found, status=ExecutionStatus(until))
            return found, await durable.store.load_checkpoints("story-1")

    return asyncio.run(main())


def check(function: Function, records: Records) -> None:
    check_replay(workflow(name="story")(function), *records)


@pytest.mark.parametrize("function", [one_step, two_steps, raises, sleeps, gives_up, naps_for])
def test_code_that_is_as_it_was_passes(function: Function) -> None:
    check(function, recorded(function))


def test_code_in_other_words_passes() -> None:
    check(two_kept, recorded(two_steps))


def test_it_works_inside_of_an_event_loop_and_leaves_that_as_it_is() -> None:
    records = recorded(sleeps)

    async def main() -> None:
        check(sleeps, records)
        with pytest.raises(NonDeterminismError):
            check(waits, records)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (two_steps, one_step, "has step 'two' recorded at index 1, as event 2, but its workflow"),
        (two_steps, one_more, "has a result recorded, where its workflow now waits for step 'thr"),
        (two_steps, other_result, 'the result "12" recorded, where its workflow now returns "12!"'),
        (two_steps, raises, "a result recorded, where its workflow now raises builtins:ValueError"),
        (two_steps, unawaited, "asks for step 'three' \\(index 2\\), and does not await it"),
        (raises, two_steps, "the error builtins:ValueError recorded, where its workflow now ends"),
        (raises, raises_otherwise, "builtins:ValueError recorded, .* now raises builtins:KeyError"),
        (raises, one_more, "the error builtins:ValueError recorded, .* waits for step 'three'"),
        (sleeps, waits, "has sleep 'nap' recorded at index 1, .* asks for signal 'nap'"),
        (
            naps_for,
            naps_for_longer,
            "due at 2030-01-01 01:00.* for one until 2030-01-01 02:00",
        ),
    ],
)
def test_other_code_is_found_at_the_end(before: Function, now: Function, words: str) -> None:
    with pytest.raises(NonDeterminismError, match=words) as raised:
        check(now, recorded(before))
    assert raised.value.workflow_execution_id == "story-1"


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (sleeps, two_steps, "sleep 'nap' recorded at index 1.* asks for step 'two'"),
        (sleeps, one_step, "sleep 'nap' recorded at index 1, but its workflow ended without it"),
        (
            sleeps,
            gives_up,
            "sleep 'nap' .*, not ended yet, .* now waits for a timer",
        ),
        (sleeps, sleeps_and_waits, "nothing recorded at index 0 of branch 'b', .* signal 'wake'"),
        (sleeps_and_waits, sleeps, "signal 'wake' recorded at index 0 of branch 'b', but its"),
        (
            naps_for,
            naps_for_longer,
            "due at 2030-01-01 01:00.* for one until 2030-01-01 02:00",
        ),
    ],
)
def test_other_code_is_found_where_it_rests(before: Function, now: Function, words: str) -> None:
    with pytest.raises(NonDeterminismError, match=words):
        check(now, recorded(before, until="SUSPENDED"))


def test_a_duration_may_change_since_the_recorded_deadline_counts() -> None:
    check(sleeps_shorter, recorded(sleeps, until="SUSPENDED"))


def test_what_has_been_asked_for_since_may_not_be_recorded_yet_while_it_runs() -> None:
    execution, checkpoints = recorded(sleeps_and_waits, until="RUNNING")
    check(sleeps_and_waits, (execution, checkpoints[:1]))
    check(sleeps_and_waits, (execution, []))


def test_a_new_execution_is_run_to_its_first_wait() -> None:
    execution, _ = recorded(sleeps, until="PENDING")
    check(sleeps, (execution, []))


def test_an_input_that_does_not_fit_is_told_of() -> None:
    execution, checkpoints = recorded(sleeps)
    execution = msgspec.structs.replace(execution, input_data="[1, 2]")
    with pytest.raises(SerializationError, match="does not fit its function"):
        check(sleeps, (execution, checkpoints))


def test_a_result_of_a_step_that_the_code_cannot_read_is_told_of() -> None:
    def number() -> int:
        return 1

    async def reads_numbers(ctx: WorkflowContext) -> None:
        await ctx.step("one", number)

    execution, checkpoints = recorded(one_step)
    checkpoints = [msgspec.structs.replace(one, output_data='"one"') for one in checkpoints]
    with pytest.raises(SerializationError, match="the result of step 'one'"):
        check(reads_numbers, (execution, checkpoints))


def test_an_error_whose_class_is_gone_is_told_of() -> None:
    async def fails(ctx: WorkflowContext) -> None:
        await ctx.step("fails", fail)

    execution, checkpoints = recorded(fails)
    checkpoints = [
        msgspec.structs.replace(
            one,
            error_type="builtins:GoneError",
            output_data=(one.output_data or "").replace("KeyError", "GoneError"),
        )
        for one in checkpoints
    ]
    with pytest.raises(ErrorClassNotFoundError, match="GoneError"):
        check(fails, (execution, checkpoints))


def test_a_call_that_an_engine_refuses_is_told_of() -> None:
    with pytest.raises(NonDeterministicCallError, match="network"):
        check(opens_a_socket, recorded(one_step))
