"""Models and tools of the OpenAI Agents SDK whose calls are steps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from functools import cache, cached_property
from typing import Any, Final, Unpack

from agents import FunctionTool, Model, ModelProvider, ModelResponse
from agents.models.multi_provider import MultiProvider

from durable_workflow_sqlite import step_stream
from durable_workflow_sqlite.integrations.agents import StepOptions, wrong_in
from durable_workflow_sqlite.integrations.openai_agents.records import (
    event_from_plain,
    output_to_plain,
    question,
    response_from_plain,
    response_to_plain,
    to_plain,
)
from durable_workflow_sqlite.integrations.openai_agents.scope import current_branch, current_scope

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})


def checked(options: StepOptions) -> StepOptions:
    """The options. Raises TypeError for names that are none, and for what excludes each other."""
    if (wrong := wrong_in(options)) is not None:
        raise TypeError(wrong)
    return options


class DurableModel(Model):
    """A model whose calls are steps in workflow functions; elsewhere it is the model itself.

    inner: what is called. options: of the steps.

    Raises TypeError for anything but a model, and for wrong options.
    """

    def __init__(self, inner: Model, **options: Unpack[StepOptions]) -> None:
        if not isinstance(inner, Model):
            raise TypeError(f"a model must be a Model of the SDK, not {inner!r}")
        self._inner, self._options = inner, checked(options)

    def get_retry_advice(self, request: Any) -> Any:
        return self._inner.get_retry_advice(request)

    async def close(self) -> None:
        await self._inner.close()

    async def get_response(self, *args: Any, **named: Any) -> ModelResponse:
        async def ask() -> ModelResponse:
            return await self._inner.get_response(*args, **named)

        ctx = current_branch()
        if ctx is None:
            return await ask()
        return await ctx.step(
            "model",
            ask,
            serialize=response_to_plain,
            deserialize=response_from_plain,
            of=question(*args, **named),
            **self._options,
        )

    async def stream_response(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        """In a workflow function, it gives the last event alone, which holds the response."""
        ctx = current_branch()
        if ctx is None:
            async for event in self._inner.stream_response(*args, **named):
                yield event
            return
        scope = current_scope()
        shown = False if scope is None else scope.stream

        async def ask() -> Any:
            stream = step_stream() if shown else None
            last: Any = None
            done: list[Any] = []
            async for event in self._inner.stream_response(*args, **named):
                if stream is not None:
                    item = shown(event) if callable(shown) else to_plain(event)
                    if item is not None:
                        stream.put(item)
                if event.type == "response.output_item.done":
                    done.append(event.item)
                if last is None or last.type not in _ENDS:
                    last = event
            if last is not None and last.type == "response.completed" and not last.response.output:
                last.response.output = done  # some servers leave it out there
            return last

        last = await ctx.step(
            "model",
            ask,
            serialize=to_plain,
            deserialize=event_from_plain,
            of=question(*args, **named),
            **self._options,
        )
        if last is not None:
            yield last


class DurableModelProvider(ModelProvider):
    """A provider of models, each as a `DurableModel`.

    inner: where the models come from; by default, where the SDK takes them from.
    """

    def __init__(self, inner: ModelProvider | None = None, **options: Unpack[StepOptions]) -> None:
        self._inner, self._options = inner or _default_provider(), checked(options)

    def get_model(self, model_name: str | None) -> Model:
        return DurableModel(_NamedModel(self._inner, model_name), **self._options)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _NamedModel(Model):
    """A model that is looked for when it is asked: so a replay needs no key."""

    def __init__(self, provider: ModelProvider, name: str | None) -> None:
        self._provider, self._name = provider, name

    @cached_property
    def _model(self) -> Model:
        return self._provider.get_model(self._name)

    def get_retry_advice(self, request: Any) -> Any:
        return self._model.get_retry_advice(request)

    async def get_response(self, *args: Any, **named: Any) -> ModelResponse:
        return await self._model.get_response(*args, **named)

    async def stream_response(self, *args: Any, **named: Any) -> AsyncIterator[Any]:
        async for event in self._model.stream_response(*args, **named):
            yield event


def durable_tool(tool: FunctionTool, **options: Unpack[StepOptions]) -> FunctionTool:
    """A copy of a tool whose calls are steps in workflow functions.

    `run` does it with all tools of its agents. Do it yourself for a tool that wants other options.
    An agent as a tool stays as it is: the steps of its run are steps of the workflow.

    Raises TypeError for what is not a FunctionTool, and for wrong options.
    """
    if not isinstance(tool, FunctionTool):
        raise TypeError(f"a tool must be a FunctionTool to be a step, not {tool!r}")
    if _is_agent(tool) or isinstance(tool.on_invoke_tool, _ToolStep):
        return tool
    return dataclasses.replace(
        tool,
        on_invoke_tool=_ToolStep(tool, checked(options)),
        needs_approval=_policy(tool),
    )


class _ToolStep:
    """What a durable tool is called with."""

    def __init__(self, tool: FunctionTool, options: StepOptions) -> None:
        self._tool, self._options = tool, options

    async def __call__(self, context: Any, arguments: str) -> Any:
        async def call() -> Any:
            return await self._tool.on_invoke_tool(context, arguments)

        ctx = current_branch()
        if ctx is None:
            return await call()
        return await ctx.step(
            self._tool.name, call, serialize=output_to_plain, of=arguments, **self._options
        )


@cache
def _default_provider() -> ModelProvider:
    return MultiProvider()


def _is_agent(tool: FunctionTool) -> bool:
    return bool(getattr(tool, "_is_agent_tool", False))


def _policy(tool: FunctionTool) -> Any:
    """The tool's `needs_approval`, which the SDK asks only about arguments as they were written."""
    prepare = getattr(tool.on_invoke_tool, "prepare_arguments", None)
    if not callable(tool.needs_approval) or prepare is None:
        return tool.needs_approval
    given = tool.needs_approval

    async def needs_approval(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        prepared = prepare(json.dumps(arguments), tool.name)
        if prepared is not None and not prepared.unchanged:
            return True
        return await given(context, arguments, call_id)

    return needs_approval
