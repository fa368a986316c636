"""What an agent of pydantic-ai waits for from people: each such call is a question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from pydantic import JsonValue
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.durable_exec import ExternalEventError, ExternalEventWaiter
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import (
    AgentDepsT,
    DeferredToolRequests,
    DeferredToolResults,
    ToolApproved,
    ToolDenied,
)
from pydantic_core import to_jsonable_python

from durable_workflow_sqlite import QuestionOverdueError, WorkflowContext
from durable_workflow_sqlite.integrations.agents import Approval
from durable_workflow_sqlite.integrations.pydantic_ai.steps import current_branch
from durable_workflow_sqlite.integrations.pydantic_ai.sync_functions import IN_THREADS


class QuestionWaiter(ExternalEventWaiter):
    """An event from outside is the answer to a question; its token names this question."""

    def __init__(self, branch: WorkflowContext) -> None:
        self._branch = branch

    async def wait(
        self, name: str, *, ask: Callable[[str], Awaitable[JsonValue]], timeout: timedelta | None
    ) -> JsonValue:
        branch = self._branch.branch(name, repeat=True)
        token = f"{branch.execution_id} {_question_name(branch)}"

        async def unit() -> Any:
            with Agent.using_thread_executor(IN_THREADS):
                return await ask(token)

        answer: Any = await branch.step("ask", unit)
        if answer is not None:
            return cast("JsonValue", answer)
        try:
            answer = await branch.ask(
                _question_name(branch),
                f"What is the answer to {branch.path!r}?",
                details={"token": token},
                deadline=timeout,
            )
            return cast("JsonValue", answer)
        except QuestionOverdueError as error:
            raise ExternalEventError(str(error)) from error


@dataclass
class AskPeople(AbstractCapability[AgentDepsT]):
    """Asks people for leave to call a tool, and for the result of a call that is made elsewhere.

    Each deferred tool call is a question, as `ctx.ask` asks it. Those of one response of the model
    are open at the same time. An `Approval` answers a call that needs leave; any other is answered
    by its result, as JSON. Outside of a workflow function it does nothing.

    to: whom they are for. deadline: until when they can be answered; after that the model is told
        that nobody has answered.
    """

    to: str | None = None
    deadline: timedelta | None = None

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        context = WorkflowContext.current()
        if context is None:
            return None
        branch = current_branch(context)
        calls = [*requests.approvals, *requests.calls]
        asked = [self._ask(branch, requests, call) for call in calls]
        answers = dict(
            zip((one.tool_call_id for one in calls), await asyncio.gather(*asked), strict=True)
        )
        return requests.build_results(
            approvals={one.tool_call_id: answers[one.tool_call_id] for one in requests.approvals},
            calls={one.tool_call_id: answers[one.tool_call_id] for one in requests.calls},
        )

    async def _ask(
        self, branch: WorkflowContext, requests: DeferredToolRequests, call: ToolCallPart
    ) -> Any:
        needs_leave = requests.kind(call.tool_call_id) == "approval"
        own = branch.branch(call.tool_name, repeat=True)
        by = f"The agent {branch.path.rpartition('/')[2]!r}"
        does = f"wants to call {call.tool_name!r}. May it?"
        waits = f"waits for the result of {call.tool_name!r}. What is it?"
        details: dict[str, Any] = {"arguments": call.args_as_dict()}
        if more := requests.metadata.get(call.tool_call_id):
            details["metadata"] = to_jsonable_python(more)
        try:
            answer: Any = await own.ask(
                _question_name(own),
                f"{by} {does if needs_leave else waits}",
                type=cast("Any", Approval if needs_leave else None),
                to=self.to,
                details=details,
                deadline=self.deadline,
            )
        except QuestionOverdueError:
            late = "Nobody has answered in time."
            return ToolDenied(late) if needs_leave else ToolFailed(late)
        if not needs_leave:
            return answer
        if answer.approved:
            return ToolApproved()
        return ToolDenied(answer.reason) if answer.reason else ToolDenied()


def _question_name(branch: WorkflowContext) -> str:
    """The name of the only question of a branch: its path, as far as names may be long."""
    return branch.path[-120:]
