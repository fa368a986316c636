"""The capability of pydantic-ai that makes what an agent does steps of a workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.agent import AbstractAgent, EventStreamHandler
from pydantic_ai.capabilities import AbstractCapability, WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    conversation_id_from_run_id,
    external_event_scope,
    replay_scope,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT
from pydantic_ai.toolsets import AbstractToolset, DynamicToolset

from durable_workflow_sqlite import WorkflowContext
from durable_workflow_sqlite.integrations.agents import StepOptions
from durable_workflow_sqlite.integrations.pydantic_ai.questions import QuestionWaiter
from durable_workflow_sqlite.integrations.pydantic_ai.steps import (
    BRANCH,
    METADATA,
    StepBackend,
    check_options,
    current_branch,
)
from durable_workflow_sqlite.integrations.pydantic_ai.sync_functions import IN_PLACE


class WorkflowDurability(BaseDurabilityCapability[AgentDepsT]):
    """The capability that makes an agent durable in a workflow function.

    Each model request, each tool call and each call of a handler of events is a step. A replay of
    the workflow gives the agent what is recorded. Outside of a workflow function the agent runs as
    without it, also in the action of a step.

    model, tool, event: options of the steps of model requests, of tool calls, and of calls of
        `event_stream_handler`. A tool may have options of its own, in its metadata:
        `metadata={"durable_workflow": {"retry": ...}}`. With False instead, it runs in the workflow
        function and not in a step: so an agent that it runs has steps of its own.
    check_prompts: whether a replay stops with NonDeterminismError if the messages of a model
        request are not those that were recorded.
    models, event_stream_handler, name: as for other engines of pydantic-ai. The name, by default
        that of the agent, is in the history: do not change it while executions are unfinished.

    Raises UserError of pydantic-ai, when the agent is made, if it has no name or no model.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="durable-workflow-sqlite",
        durable_unit_noun="step",
        durable_container_noun="workflow",
        codec=JSON_CODEC,
        toolset_lifecycles={
            "function": "enter-always",
            "mcp": "enter-never",  # a step runs on another event loop than the workflow
            "dynamic": "enter-never",
        },
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key=METADATA,
    )

    def __init__(
        self,
        *,
        model: StepOptions | None = None,
        tool: StepOptions | None = None,
        event: StepOptions | None = None,
        check_prompts: bool = True,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        for what, options in (("model", model), ("tool", tool), ("event", event)):
            check_options(what, options)
        self._options = {"model": model or {}, "tool": tool or {}, "event": event or {}}
        self._check_prompts = check_prompts

    @property
    def in_durable_context(self) -> bool:
        return WorkflowContext.current() is not None

    def get_default_run_id(self) -> str | None:
        context = WorkflowContext.current()
        return None if context is None else str(context.uuid4())

    def get_default_conversation_id(self, run_id: str) -> str | None:
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        context = WorkflowContext.current()
        if context is None:
            return None
        if getattr(self.agent, "_concurrency_limiter", None) is not None:
            raise UserError(
                f"the agent {self.name!r} has max_concurrency, which counts the runs of this"
                " process: in a workflow function, a replay would wait otherwise. Limit its steps"
                ' instead: WorkflowDurability(model={"limit": NAME})'
            )
        return context.now

    def get_durable_operation_backend(self) -> StepBackend:
        return StepBackend(self.name, self.default_model_id, self._options, self._check_prompts)

    def for_agent(self, agent: AbstractAgent[AgentDepsT, Any]) -> AbstractCapability[AgentDepsT]:
        for toolset in agent.toolsets:
            toolset.apply(_check_toolset)
        return super().for_agent(agent)

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        context = WorkflowContext.current()
        if context is None:
            return await handler()
        branch = current_branch(context).branch(self.name, repeat=True)
        before = BRANCH.set((context, branch))
        try:
            with ExitStack() as stack:
                stack.enter_context(replay_scope())
                stack.enter_context(external_event_scope(QuestionWaiter(branch)))
                stack.enter_context(Agent.using_thread_executor(IN_PLACE))
                return await super().wrap_run(ctx, handler=handler)
        finally:
            BRANCH.reset(before)

    def _durable_run_context(self, ctx: RunContext[AgentDepsT]) -> RunContext[AgentDepsT]:
        # What a step emits would be missing when the workflow is replayed.
        return replace(super()._durable_run_context(ctx), _event_stream_buffer=None)


def _check_toolset(toolset: AbstractToolset[Any]) -> None:
    if isinstance(toolset, DynamicToolset) and not toolset.per_run_step:
        raise UserError(
            f"the dynamic toolset {toolset.id!r} has per_run_step=False, and so would be opened in"
            " a step and closed in the workflow, on another event loop. Make it with"
            " per_run_step=True"
        )
