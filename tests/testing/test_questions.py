"""Questions in the sandboxes: answered once, however often the process dies over it."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import pytest

from durable_workflow_sqlite import (
    QuestionAnsweredError,
    QuestionNotFoundError,
    SerializationError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.testing import AsyncSandbox, Sandbox


@workflow
async def approval(ctx: WorkflowContext, amount: int) -> str:
    ok = await ctx.ask("approve", f"Pay {amount}?", type=bool, to="finance")
    if not ok:
        return "refused"
    return await ctx.ask(
        "account", "From which?", type=str, deadline=timedelta(days=2), overdue="main"
    )


def test_a_sandbox_answers() -> None:
    with Sandbox([approval]) as durable:
        execution = durable.start(approval, 700)
        (question,) = durable.questions()
        assert (question.question, question.to) == ("Pay 700?", "finance")
        with pytest.raises(SerializationError, match="true or false"):
            execution.answer("approve", "yes")
        with pytest.raises(QuestionNotFoundError):
            execution.answer("account", "mine")
        durable.answer(execution.execution_id, "approve", value=True, by="kim")
        assert durable.questions(to="finance") == []
        durable.advance(timedelta(days=1))
        durable.crash()
        execution.answer("account", "mine")
        assert execution.result() == "mine"
        with pytest.raises(QuestionAnsweredError, match="by kim at"):
            execution.answer("approve", value=True)


def test_the_deadline_comes_in_the_time_of_the_sandbox() -> None:
    with Sandbox([approval]) as durable:
        execution = durable.start(approval, 700)
        execution.answer("approve", value=True)
        assert execution.result() == "main"


@pytest.mark.parametrize("moment", ["before", "recorded"])
async def test_an_answer_is_stored_once_where_the_process_dies_over_it(
    moment: Literal["before", "recorded"],
) -> None:
    async with AsyncSandbox([approval]) as durable:
        durable.crash_at("approve", moment)
        execution = await durable.start(approval, 700)
        await execution.answer("approve", value=False, by="kim")
        assert await execution.result() == "refused"
        assert await durable.questions() == []
