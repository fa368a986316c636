"""Agents of pydantic-ai with models that are functions, each with what it is to answer.

Each call of a model, a tool or a handler notes the place of its step in a journal, which outlives
the process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic_ai import (
    Agent,
    DeferredToolRequests,
    ModelRetry,
    RunContext,
    UsageLimitExceeded,
    UsageLimits,
)
from pydantic_ai.capabilities import RequestInput
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelHTTPError,
    ToolFailed,
    UnexpectedModelBehavior,
)
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionFinishedError,
    QuestionAnsweredError,
    QuestionNotFoundError,
    RetryPolicy,
    WorkflowContext,
    WorkflowDefinition,
    step_info,
    step_stream,
    workflow,
)
from durable_workflow_sqlite.integrations.pydantic_ai import AskPeople, WorkflowDurability
from tests.crash.harness import EXECUTION
from tests.processes import Journal

TWICE = RetryPolicy.fixed(max_attempts=2, delay=timedelta(milliseconds=1))


def note(journal: Journal, what: str) -> None:
    """What begins now, and the place of its step."""
    info = step_info()
    journal.note(f"{info.branch} {info.step_index}: {what}")


def answers(*turns: ModelResponse | Callable[[list[str]], ModelResponse]) -> Any:
    """A model that gives one after the other, from what its tools have returned."""

    def turn(messages: list[ModelMessage]) -> ModelResponse:
        number = sum(isinstance(one, ModelResponse) for one in messages)
        returned = [
            str(part.content)
            for one in messages
            for part in one.parts
            if isinstance(part, ToolReturnPart)
        ]
        found = turns[number]
        return found if isinstance(found, ModelResponse) else found(returned)

    return turn


def noted(journal: Journal, turn: Any) -> FunctionModel:
    async def model(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        note(journal, "model")
        await asyncio.sleep(0)
        return turn(messages)  # type: ignore[no-any-return]

    return FunctionModel(model)


def calls(*made: tuple[str, Mapping[str, Any], str]) -> ModelResponse:
    return ModelResponse(
        parts=[ToolCallPart(name, dict(args), tool_call_id=id_) for name, args, id_ in made]
    )


def says(returned: list[str]) -> ModelResponse:
    return ModelResponse(parts=[TextPart(" ".join(returned))])


def say(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


def tools(journal: Journal) -> WorkflowDefinition[..., Any]:
    """Tools beside each other, one of them sync, ids with slashes; a retry with the same id."""
    agent = Agent(
        noted(
            journal,
            answers(
                calls(
                    *(("weather", {"city": city}, f"call_{city}") for city in ("rome", "oslo")),
                    ("count", {"text": "abc"}, "call/with/slash"),
                ),
                calls(("picky", {"x": 1}, "p")),
                calls(("picky", {"x": 2}, "p")),
                calls(("failed", {}, "f")),
                says,
            ),
        ),
        name="planner",
        capabilities=[WorkflowDurability()],
    )

    @agent.instructions
    def instruct() -> str:  # sync: it runs in the workflow
        return f"Answer {WorkflowContext.current() is not None}"

    @agent.tool_plain
    async def weather(city: str) -> str:
        note(journal, city)
        await asyncio.sleep(0.002 if city == "rome" else 0)
        return f"{city}=sunny"

    @agent.tool_plain
    def count(text: str) -> int:
        note(journal, "count")
        asyncio.run(asyncio.sleep(0))  # it is in a thread
        return len(text)

    @agent.tool
    async def picky(ctx: RunContext[None], x: int) -> str:
        note(journal, f"picky {x}")
        if x == 1:
            raise ModelRetry("x must be 2")
        return f"picky at {ctx.retry}"

    @agent.tool_plain
    async def failed() -> str:
        note(journal, "failed")
        raise ToolFailed("it is broken")

    @workflow(name="tools")
    async def body(ctx: WorkflowContext) -> Any:
        result = await agent.run("How is it?")
        return [result.output, result.usage.requests, result.usage.tool_calls]

    return body


def streaming(journal: Journal) -> WorkflowDefinition[..., Any]:
    """A streamed answer, whose events go to a handler and to a stream."""

    async def stream(
        messages: list[ModelMessage], _: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        note(journal, "stream")
        if len(messages) == 1:
            yield {
                0: DeltaToolCall("look", '{"x": ', tool_call_id="a"),
                1: DeltaToolCall("look", '{"x": 2}', tool_call_id="b"),
            }
            yield {0: DeltaToolCall(json_args="1}")}
        else:
            for word in ("it ", "is ", "done"):
                yield word

    async def handler(_: RunContext[None], events: Any) -> None:
        async for event in events:
            step_stream().put(type(event).__name__)

    agent = Agent(
        FunctionModel(stream_function=stream),
        name="streamer",
        capabilities=[WorkflowDurability(event_stream_handler=handler)],
    )

    @agent.tool_plain
    async def look(x: int) -> int:
        note(journal, f"look {x}")
        return x

    @workflow(name="streaming")
    async def body(ctx: WorkflowContext) -> Any:
        first = (await agent.run("go")).output
        async with agent.run_stream("go on") as streamed:
            return [first, "".join([one async for one in streamed.stream_text(delta=True)])]

    return body


def nested(journal: Journal) -> WorkflowDefinition[..., Any]:
    """An agent in a tool that is a step; another one in a tool that is none."""
    inner = Agent(
        noted(journal, answers(calls(("think", {}, "t")), says)),
        name="inner",
        capabilities=[WorkflowDurability()],
    )

    @inner.tool_plain
    async def think() -> str:
        note(journal, "think")
        return "hm"

    outer = Agent(
        noted(journal, answers(calls(("whole", {}, "a"), ("in_steps", {}, "b")), says)),
        name="outer",
        capabilities=[WorkflowDurability()],
    )

    @outer.tool
    async def whole(ctx: RunContext[None]) -> str:
        return (await inner.run("x", usage=ctx.usage)).output

    @outer.tool(metadata={"durable_workflow": False})
    async def in_steps(ctx: RunContext[None]) -> str:
        return (await inner.run("y", usage=ctx.usage)).output

    @workflow(name="nested")
    async def body(ctx: WorkflowContext) -> Any:
        result = await outer.run("go")
        return [result.output, result.usage.requests, result.usage.tool_calls]

    return body


def approvals(journal: Journal) -> WorkflowDefinition[..., Any]:
    """Leave for calls, an answer for one that is made elsewhere, and input by a token."""
    agent = Agent(
        noted(
            journal,
            answers(
                calls(
                    ("delete", {"path": "/x"}, "x"),
                    ("delete", {"path": "/y"}, "y"),
                    ("careful", {}, "c"),
                    ("elsewhere", {}, "e"),
                ),
                says,
            ),
        ),
        name="approver",
        capabilities=[AskPeople(to="ops"), WorkflowDurability()],
    )

    @agent.tool_plain(requires_approval=True)
    async def delete(path: str) -> str:
        note(journal, f"delete {path}")
        return f"deleted {path}"

    @agent.tool
    async def careful(ctx: RunContext[None]) -> str:
        note(journal, f"careful {ctx.tool_call_approved}")
        if not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"why": "care"})
        return "with care"

    @agent.tool_plain
    async def elsewhere() -> str:
        raise CallDeferred(metadata={"job": 7})

    async def ask(_: RunContext[None], requests: DeferredToolRequests, token: str) -> None:
        note(journal, f"ask {len(requests.approvals)} {token}")

    asking = Agent(
        noted(journal, answers(calls(("erase", {}, "z")), says)),
        name="asker",
        capabilities=[RequestInput(ask), WorkflowDurability()],
    )

    @asking.tool_plain(requires_approval=True)
    async def erase() -> str:
        note(journal, "erase")
        return "erased"

    @workflow(name="approvals")
    async def body(ctx: WorkflowContext) -> Any:
        return [(await one.run("go")).output for one in (agent, asking)]

    return body


ANSWERS: dict[str, Any] = {
    "approver/delete": {"approved": True},
    "approver/delete#2": {"approved": False, "reason": "no way"},
    "approver/careful": {"approved": True},
    "approver/elsewhere": "from elsewhere",
    "asker/deferred_tool_calls": {"approvals": {"z": True}},
}


def beside(journal: Journal) -> WorkflowDefinition[..., Any]:
    """Runs of one agent, begun in another order than the one in which they were written."""

    def echo(messages: list[ModelMessage]) -> ModelResponse:
        asked: Any = messages[0].parts[-1]
        number = sum(isinstance(one, ModelResponse) for one in messages)
        return say(f"re: {asked.content}") if number else calls(("wait", {}, "w"))

    agent = Agent(noted(journal, echo), name="echo", capabilities=[WorkflowDurability()])

    @agent.tool_plain
    async def wait() -> None:
        note(journal, "wait")
        await asyncio.sleep(0.001)

    async def slow(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @workflow(name="beside")
    async def body(ctx: WorkflowContext) -> Any:
        async def part(key: str, seconds: float) -> str:
            await ctx.branch(key).step("slow", slow, seconds)
            return (await agent.run(key)).output

        return await asyncio.gather(part("x", 0.01), part("y", 0.0), part("z", 0.004))

    return body


def errors(journal: Journal) -> WorkflowDefinition[..., Any]:
    """Errors of a model, of a run, of a limit, each caught; then a run that goes well."""

    def down(_: list[ModelMessage]) -> ModelResponse:
        raise ModelHTTPError(503, "fake", {"error": "overloaded"})

    failing = Agent(
        noted(journal, down),
        name="failing",
        capabilities=[WorkflowDurability(model={"retry": TWICE})],
    )
    unknown = Agent(
        noted(journal, lambda _: calls(("nope", {}, "n"))),
        name="unknown",
        capabilities=[WorkflowDurability()],
    )
    well = Agent(
        noted(journal, answers(calls(("tool", {}, "t")), calls(("tool", {}, "u")), says)),
        name="well",
        capabilities=[WorkflowDurability(tool={"retry": TWICE})],
    )

    @well.tool_plain
    async def tool() -> str:
        note(journal, "tool")
        if step_info().attempt == 1:
            raise ConnectionError("not yet")
        return "ok"

    @workflow(name="errors")
    async def body(ctx: WorkflowContext) -> Any:
        told: list[Any] = []
        try:
            await failing.run("x")
        except ModelHTTPError as error:
            told.append([error.status_code, error.model_name, error.body])
        try:
            await unknown.run("x")
        except UnexpectedModelBehavior as error:
            told.append(error.message[:12])
        try:
            await well.run("x", usage_limits=UsageLimits(request_limit=1))
        except UsageLimitExceeded:
            told.append("limit")
        return [*told, (await well.run("x", timeout=600)).output]

    return body


MCP_SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("adder", instructions="Add.")
@server.tool()
def add(a: int, b: int) -> int:
    with open({path!r}, "a") as file:
        file.write("add\\n")
    return a + b
server.run()
"""


def mcp(journal: Journal) -> WorkflowDefinition[..., Any]:
    """A toolset whose tools are in another process."""
    code = MCP_SERVER.format(path=str(journal._path))
    toolset = MCPToolset[None](
        StdioTransport(sys.executable, ["-c", code]), id="adder", include_instructions=True
    )
    agent = Agent(
        noted(journal, answers(calls(("add", {"a": 1, "b": 2}, "m")), says)),
        name="with mcp",
        toolsets=[toolset],
        capabilities=[WorkflowDurability()],
    )

    @workflow(name="mcp")
    async def body(ctx: WorkflowContext) -> Any:
        return (await agent.run("go")).output

    body.toolset = toolset  # type: ignore[attr-defined]
    return body


async def answering(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Start the execution, or attach to it, and answer what it asks, until its end."""
    handle = await engine.start(definition, execution_id=EXECUTION)
    result = asyncio.ensure_future(handle.result())
    while not result.done():
        for one in await engine.questions(execution_id=EXECUTION):
            with suppress(QuestionNotFoundError, QuestionAnsweredError, ExecutionFinishedError):
                await engine.answer(EXECUTION, one.name, ANSWERS[one.name], by="kim")
        await asyncio.wait([result], timeout=0.002)
    await result


@dataclass(frozen=True)
class Agents:
    """Agents in a workflow, what it returns, and how many steps and questions its history has."""

    make: Callable[[Journal], WorkflowDefinition[..., Any]]
    result: Any
    steps: int

    @property
    def name(self) -> str:
        return self.make.__name__


ALL = [
    Agents(tools, ["rome=sunny oslo=sunny 3 x must be 2 picky at 1 it is broken", 5, 4], 11),
    Agents(streaming, ["it is done", "it is done"], 16),
    Agents(nested, ["hm hm", 6, 4], 6),
    Agents(approvals, ["deleted /x no way with care from elsewhere", "erased"], 15),
    Agents(beside, ["re: x", "re: y", "re: z"], 12),
    Agents(errors, [[503, "fake", {"error": "overloaded"}], "Tool 'nope' ", "limit", "ok ok"], 10),
]
