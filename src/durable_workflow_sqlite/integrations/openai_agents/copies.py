"""Durable copies of agents of the OpenAI Agents SDK."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, TypeVar, cast

from agents import Agent, FunctionTool, Handoff, Model, RunConfig, UserError

from durable_workflow_sqlite.integrations.agents import StepOptions
from durable_workflow_sqlite.integrations.openai_agents.servers import durable_server
from durable_workflow_sqlite.integrations.openai_agents.steps import (
    DurableModel,
    DurableModelProvider,
    checked,
    durable_tool,
)

T = TypeVar("T")

_RUN_LOCALLY: Final = ("computer", "editor", "executor", "on_invoke_tool")


def durable_agent(
    agent: Agent[T],
    *,
    model_options: StepOptions | None = None,
    tool_options: StepOptions | None = None,
) -> Agent[T]:
    """A copy of an agent, and of those it hands off to, whose model and tools are durable.

    `run` does it with its agent.

    Raises UserError for tools that run here and are no FunctionTool, TypeError for unknown options.
    """
    copier = Copier(model_options or {}, tool_options or {})
    return cast("Agent[T]", copier.copy(agent))


class Copier:
    """Makes the durable copies of agents, one of each."""

    def __init__(self, model_options: StepOptions, tool_options: StepOptions) -> None:
        self._model_options, self._tool_options = checked(model_options), checked(tool_options)
        self._made: dict[int, tuple[Agent[Any], Agent[Any]]] = {}

    def copy(self, agent: Agent[Any]) -> Agent[Any]:
        if id(agent) in self._made:
            return self._made[id(agent)][1]
        copy = agent.clone(
            model=self._model(agent.model),
            tools=[self._tool(agent, one) for one in agent.tools],
            mcp_servers=[durable_server(one, self._tool_options) for one in agent.mcp_servers],
        )
        self._made[id(agent)] = self._made[id(copy)] = agent, copy
        copy.handoffs = [self._handoff(one) for one in agent.handoffs]
        return copy

    def config(self, given: RunConfig | dict[str, Any] | None) -> RunConfig:
        if isinstance(given, dict):
            given = RunConfig(**given)
        if given is None:
            return RunConfig(model_provider=DurableModelProvider(**self._model_options))
        if getattr(given, "sandbox", None) is not None:
            raise UserError("a workflow cannot run agents in a sandbox of the SDK")
        provider = given.model_provider
        if not isinstance(provider, DurableModelProvider):
            provider = DurableModelProvider(provider, **self._model_options)
        return dataclasses.replace(given, model_provider=provider, model=self._model(given.model))

    def _model(self, model: str | Model | None) -> str | Model | None:
        if isinstance(model, Model) and not isinstance(model, DurableModel):
            return DurableModel(model, **self._model_options)
        return model

    def _tool(self, agent: Agent[Any], tool: Any) -> Any:
        if isinstance(tool, FunctionTool):
            return durable_tool(tool, **self._tool_options)
        if any(getattr(tool, name, None) is not None for name in _RUN_LOCALLY):
            raise UserError(
                f"tool {tool.name!r} of agent {agent.name!r} runs here, and cannot be a step; give"
                " the agent a function tool that does the same"
            )
        return tool  # it runs where the model does

    def _handoff(self, handoff: Agent[Any] | Handoff[Any, Any]) -> Agent[Any] | Handoff[Any, Any]:
        if isinstance(handoff, Agent):
            return self.copy(handoff)

        async def invoke(context: Any, arguments: str) -> Agent[Any]:
            return self.copy(await handoff.on_invoke_handoff(context, arguments))

        return dataclasses.replace(handoff, on_invoke_handoff=invoke)
