"""A test cuts a step off in a sandbox, and says what a person answers."""

from __future__ import annotations

from typing import Any

import pytest

from durable_workflow_sqlite import Done, NotDone, StepAmbiguousError, WorkflowContext, workflow
from durable_workflow_sqlite.testing import AsyncSandbox


async def charge() -> int:
    return 7


@workflow
async def order(ctx: WorkflowContext) -> int:
    return await ctx.step("charge", charge, in_doubt="ask")


@pytest.mark.parametrize(
    ("answer", "result"), [({"value": 5}, 5), ({"not_done": True}, 7)], ids=["a value", "not done"]
)
async def test_a_step_asks_after_a_crash_and_is_answered(
    answer: dict[str, Any], result: int
) -> None:
    async with AsyncSandbox() as durable:
        durable.crash_at("charge", "after")
        execution = await durable.start(order, execution_id="one")
        await durable.settle()
        assert await durable.history() == ["charge (waits for an answer)"]
        await durable.restart()
        assert await durable.history() == ["charge (waits for an answer)"]
        await durable.ask(lambda engine: engine.resolve("one", "charge", **answer))
        assert await execution.result() == result


async def test_a_test_that_forgets_the_answer_is_told() -> None:
    async with AsyncSandbox() as durable:
        durable.crash_at("charge", "before")
        execution = await durable.start(order, execution_id="one")
        with pytest.raises(AssertionError, match="'charge' is in doubt, and waits for an answer"):
            await execution.result()
        await durable.ask(lambda engine: engine.cancel("one"))


async def test_a_probe_and_a_step_that_fails() -> None:
    asked: list[str] = []

    async def probe(key: str) -> Done[int] | NotDone:
        asked.append(key)
        return Done(5)

    @workflow
    async def both(ctx: WorkflowContext) -> tuple[int, bool]:
        paid = await ctx.step("charge", charge, in_doubt=probe)
        try:
            await ctx.step("mail", charge, in_doubt="fail")
        except StepAmbiguousError:
            return paid, False
        return paid, True

    async with AsyncSandbox() as durable:
        durable.crash_at("charge", "after")
        durable.crash_at("mail", "after")
        assert await durable.run(both) == (5, False)
        assert len(asked) == 1
