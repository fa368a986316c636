"""The steps of an agent run of pydantic-ai: which options each has, and what it was asked."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal, cast

from pydantic import TypeAdapter
from pydantic_ai import Agent, RunContext, RunUsage
from pydantic_ai.durable_exec import (
    DurableOperationId,
    JournalCallableOperationBackend,
    ModelCompactMessagesId,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    record_durable_unit,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.models import ModelRequestContext

from durable_workflow_sqlite import WorkflowContext
from durable_workflow_sqlite.integrations.agents import StepOptions, wrong_in
from durable_workflow_sqlite.integrations.pydantic_ai.sync_functions import IN_THREADS

METADATA: Final = "durable_workflow"
"""The key in the metadata of a tool: options of its step, or False."""

_IDEMPOTENT: Final = (ToolsetGetToolsId, ToolsetGetInstructionsId)
_USAGE: Final = TypeAdapter(RunUsage)
_ASKED: Final[Any] = {"__all__": {"kind", "instructions", "parts"}}
_NOT_ASKED: Final[Any] = {"__all__": {"parts": {"__all__": {"timestamp", "tool_call_id"}}}}

BRANCH: Final[ContextVar[tuple[WorkflowContext, WorkflowContext] | None]] = ContextVar(
    "durable_workflow_agent_run", default=None
)
"""A workflow function, and the branch of the agent run in it that goes on here."""


def current_branch(context: WorkflowContext) -> WorkflowContext:
    """The branch of the agent run that asks, or the workflow function itself."""
    found = BRANCH.get()
    return found[1] if found is not None and found[0] is context else context


def check_options(what: str, options: object) -> None:
    """Raise UserError for anything but a dict of options of a step."""
    if options is not None and not isinstance(options, dict):
        raise UserError(f"{what} must be a dict of options of `ctx.step`, not {options!r}")
    if (wrong := wrong_in(cast("dict[str, object]", options or {}))) is not None:
        raise UserError(f"{what} has {wrong}")


class StepBackend(JournalCallableOperationBackend[StepOptions]):
    """Runs each operation of an agent as a step of its run's branch."""

    def __init__(
        self,
        agent: str,
        default_model_id: str | None,
        options: Mapping[str, StepOptions],
        check_prompts: bool,
    ) -> None:
        def of_tool(_: object, tool: object, name: str) -> StepOptions | Literal[False]:
            metadata: Any = getattr(getattr(tool, "tool_def", None), "metadata", None)
            own: Any = {} if metadata is None else metadata.get(METADATA, {})
            if own is False:
                return False
            check_options(f"the metadata {METADATA!r} of tool {name!r}", own)
            return cast("StepOptions", {**options["tool"], **own})

        super().__init__(
            agent_name=agent,
            default_model_id=default_model_id,
            config=RoleBasedOperationConfig(
                model=options["model"],
                event=options["event"],
                capability={},
                tool=options["tool"],
                resolve_tool=of_tool,
            ),
        )
        self._prefix = f"{agent}__"
        self._check_prompts = check_prompts

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: StepOptions,
    ) -> object:
        context = WorkflowContext.current()
        assert context is not None, "pydantic-ai asks for a step only in a workflow function"
        name = name.removeprefix(self._prefix)
        options: dict[str, Any] = dict(config)
        run: RunContext[Any] | None = None
        if isinstance(operation_id, ModelRequestId | ModelCompactMessagesId):
            if self._check_prompts:
                options["of"] = _asked(cache_key)
        elif isinstance(operation_id, ToolsetCallToolId):
            name = f"call_tool:{cache_key[0]}"
            call: RunContext[Any] = next(
                cast("Any", one) for one in cache_key if isinstance(one, RunContext)
            )
            options["of"] = [call.tool_call_id, call.retry]
            run = call
        elif isinstance(operation_id, _IDEMPOTENT):
            options["idempotent"] = True
        was_run = False

        async def unit() -> Any:
            nonlocal was_run
            was_run = True
            with Agent.using_thread_executor(IN_THREADS):
                return await (body() if run is None else _with_usage(body, run))

        try:
            result = await current_branch(context).step(name, unit, **options)
        finally:
            record_durable_unit(executed=was_run)
        if run is None:
            return result
        if "usage" in result:
            run.usage.incr(_USAGE.validate_python(result["usage"]))
        return result["result"]


async def _with_usage(body: Callable[[], Awaitable[object]], run: RunContext[Any]) -> Any:
    """What a tool gives, and what the agents that it ran with `usage=ctx.usage` have used.

    A replay runs none of them, so that is recorded, and added when the step has ended.
    """
    shared = run.usage
    run.usage = copy.deepcopy(shared)
    before = copy.deepcopy(shared)
    try:
        result = await body()
        used = run.usage - before
    finally:
        run.usage = shared
    if not used.has_values():
        return {"result": result}
    return {"result": result, "usage": _USAGE.dump_python(used, mode="json")}


def _asked(cache_key: tuple[object, ...]) -> str:
    """What a model is asked: the messages, without what differs each time they are made."""
    messages: list[ModelMessage] = []
    for one in cache_key:
        if isinstance(one, ModelRequestContext):
            messages = one.messages
        elif isinstance(one, list):
            messages = cast("list[ModelMessage]", one)
    asked = ModelMessagesTypeAdapter.dump_json(messages, include=_ASKED, exclude=_NOT_ASKED)
    return asked.decode()
