"""Runs of agents in workflow functions, and the approvals of their tools."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, Unpack, cast

from agents import (
    Agent,
    Runner,
    RunResult,
    RunResultStreaming,
    RunState,
    ToolApprovalItem,
    TResponseInputItem,
)
from agents.run import (
    AgentRunner,
    RunOptions,
    get_default_agent_runner,
    set_default_agent_runner,
)

from durable_workflow_sqlite import WorkflowContext
from durable_workflow_sqlite.integrations.agents import Approval, StepOptions
from durable_workflow_sqlite.integrations.openai_agents.copies import Copier
from durable_workflow_sqlite.integrations.openai_agents.scope import (
    Scope,
    Streamed,
    current_branch,
    current_scope,
)

T = TypeVar("T")

Approve = Callable[[WorkflowContext, ToolApprovalItem], Coroutine[Any, Any, Approval]]

_LONGEST_NAME: Final = 120


async def ask_people(
    ctx: WorkflowContext,
    item: ToolApprovalItem,
    *,
    to: str | None = None,
    deadline: timedelta | datetime | None = None,
    overdue: Any = "raise",
) -> Approval:
    """Ask people whether a tool may be called, by a question named "approve TOOL".

    ctx: a branch for this question alone. to, deadline, overdue: as for `ctx.ask`.

    Raises as `ctx.ask`.
    """
    arguments: Any = item.arguments
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):  # a model may write anything
            arguments = json.loads(arguments)
    return await ctx.ask(
        f"approve {item.name}"[:_LONGEST_NAME],
        f"May {item.agent.name} call {item.name}?",
        type=Approval,
        to=to,
        details={"agent": item.agent.name, "tool": item.name, "arguments": arguments},
        deadline=deadline,
        overdue=overdue,
    )


async def run(
    starting_agent: Agent[T],
    input: str | list[TResponseInputItem] | RunState[T],  # noqa: A002 - as the SDK names it
    *,
    ctx: WorkflowContext | None = None,
    model_options: StepOptions | None = None,
    tool_options: StepOptions | None = None,
    stream: Streamed = False,
    approve: Approve | None = ask_people,
    **options: Unpack[RunOptions[T]],
) -> RunResult | RunResultStreaming:
    """As `Runner.run`, in a workflow function: each call of a model or a tool is a step.

    starting_agent: is not changed. The run uses a copy, and copies of the agents that it hands off
        to or has as tools; so `result.last_agent` is a copy with the same name.
    ctx: where the run gets its branch, which has the name of the agent. By default, that is the run
        that this one is in, or else the main line. The second run of a name there is "NAME#2".
    model_options, tool_options: options of the steps; a `DurableModel` or a `durable_tool` may have
        others.
    stream: whether models stream, so that `client.follow` gives each event as plain data while the
        step runs. A function gets each event, and returns what a follower is to get instead; of
        None, it gets nothing.
    approve: called for each tool call that needs an approval, all at once. None returns the result
        with its interruptions, as `Runner.run` does.
    options: those of `Runner.run`.

    Raises what `Runner.run` and `approve` raise; TypeError for bad arguments; UserError for an
    agent that cannot be run so; NonDeterminismError if a replay asks a model or a tool something
    else than before; RuntimeError outside of a workflow function.
    """
    main = WorkflowContext.current()
    if main is None:
        raise RuntimeError(
            "run() is for workflow functions, and none called it. In an action of a step, and"
            " elsewhere, call Runner.run"
        )
    if ctx is not None and not isinstance(ctx, WorkflowContext):
        raise TypeError(f"ctx must be a WorkflowContext, not {ctx!r}")
    if not isinstance(stream, bool) and not callable(stream):
        raise TypeError(f"stream must be a bool or a function of an event, not {stream!r}")
    if approve is not None and not callable(approve):
        raise TypeError(f"approve must be an async function or None, not {approve!r}")
    runner = get_default_agent_runner()
    if not isinstance(runner, _BodyRunner):
        set_default_agent_runner(_BodyRunner(runner))
    copier = Copier(model_options or {}, tool_options or {})
    scope = Scope(main, ctx or current_branch() or main, copier, stream)
    with scope.entered():
        while True:
            result: RunResult | RunResultStreaming
            if stream:
                result = Runner.run_streamed(starting_agent, input, **options)
                async for _ in result.stream_events():
                    pass
            else:
                result = await Runner.run(starting_agent, input, **options)
            if approve is None or not result.interruptions:
                return result
            asked = [
                approve(scope.branch.branch(f"approve {item.name}", repeat=True), item)
                for item in result.interruptions
            ]
            answers = await asyncio.gather(*asked)
            state = cast("RunState[T]", result.to_state())
            for item, answer in zip(result.interruptions, answers, strict=True):
                if answer.approved:
                    state.approve(item)
                else:
                    state.reject(item, rejection_message=answer.reason or None)
            input = state  # noqa: A001
            for name in ("previous_response_id", "auto_previous_response_id", "conversation_id"):
                options.pop(name, None)  # type: ignore[misc]  # the state has them


class _BodyRunner(AgentRunner):
    """What `Runner` calls: in `run`, it is durable, also for an agent as a tool. Else as before."""

    def __init__(self, before: AgentRunner) -> None:
        self._before = before

    async def run(self, starting_agent: Any, input: Any, **options: Any) -> RunResult:  # noqa: A002
        scope = current_scope()
        if scope is None:
            return await self._before.run(starting_agent, input, **options)
        with scope.within(starting_agent.name).entered():
            options["run_config"] = scope.copier.config(options.get("run_config"))
            return await self._before.run(scope.copier.copy(starting_agent), input, **options)

    def run_sync(self, starting_agent: Any, input: Any, **options: Any) -> RunResult:  # noqa: A002
        return self._before.run_sync(starting_agent, input, **options)

    def run_streamed(
        self,
        starting_agent: Any,
        input: Any,  # noqa: A002
        **options: Any,
    ) -> RunResultStreaming:
        scope = current_scope()
        if scope is None:
            return self._before.run_streamed(starting_agent, input, **options)
        with scope.within(starting_agent.name).entered():
            options["run_config"] = scope.copier.config(options.get("run_config"))
            return self._before.run_streamed(scope.copier.copy(starting_agent), input, **options)
