"""How the history of an agent grows, and how long its replay takes, with each framework.

    python -m benchmarks.agents [TURNS ...]

In each turn, a model that answers at once asks for one tool, and the tool returns 1000 characters.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

from agents import Agent as OpenAIAgent
from agents import function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from langchain_core.messages import AIMessage
from langgraph.graph import (  # pyright: ignore[reportMissingTypeStubs]
    START,
    MessagesState,
    StateGraph,
)
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import UsageLimits

from durable_workflow_sqlite import (
    DurableEngine,
    WorkflowContext,
    open_store,
    workflow,
)
from durable_workflow_sqlite.engine.checking import check_replay
from durable_workflow_sqlite.integrations.langgraph import run_graph
from durable_workflow_sqlite.integrations.openai_agents import run
from durable_workflow_sqlite.integrations.pydantic_ai import WorkflowDurability

ANSWER: Final = "x" * 500
RESULT: Final = "y" * 1000


@workflow
async def with_pydantic_ai(ctx: WorkflowContext, turns: int) -> None:
    def answer(messages: list[Any], _: object) -> ModelResponse:
        goes_on = len(messages) < 2 * turns - 1
        asks = [ToolCallPart("look", {}, f"call-{len(messages)}")] if goes_on else []
        return ModelResponse([TextPart(ANSWER), *asks])

    agent = Agent(FunctionModel(answer), name="agent", capabilities=[WorkflowDurability()])
    agent.tool_plain(look)
    await agent.run("Go on", usage_limits=UsageLimits(request_limit=None))


@workflow
async def with_openai_agents(ctx: WorkflowContext, turns: int) -> None:
    asks: list[Any] = [
        [assistant_message(ANSWER), function_call("look", {}, call_id=f"call-{turn}")]
        for turn in range(turns - 1)
    ]
    model = ScriptedModel([*asks, [assistant_message(ANSWER)]])
    agent = OpenAIAgent("agent", model=model, tools=[function_tool(look)])
    await run(agent, "Go on", max_turns=turns)


@workflow
async def with_langgraph(ctx: WorkflowContext, turns: int) -> None:
    async def model(state: MessagesState) -> MessagesState:
        return {"messages": [AIMessage(ANSWER)]}

    async def tool(state: MessagesState) -> MessagesState:
        return {"messages": [AIMessage(RESULT)]}

    def goes_on(state: MessagesState) -> str:
        return "tool" if len(state["messages"]) < 2 * turns else "__end__"

    builder: Any = StateGraph(MessagesState)
    builder.add_node(model).add_node(tool)
    builder.add_edge(START, "model").add_edge("tool", "model")
    builder.add_conditional_edges("model", goes_on)
    limit = {"recursion_limit": 2 * turns + 1}
    await run_graph(ctx, builder.compile(), {"messages": ["Go on"]}, config=cast("Any", limit))


async def look() -> str:
    return RESULT


WORKFLOWS: Final = (with_pydantic_ai, with_openai_agents, with_langgraph)


async def measure(definition: Any, turns: int) -> tuple[int, float, float]:
    """The rows of the history, the MB by which the file grew, and the seconds of a replay."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "workflows.db")
        async with open_store(path):
            pass
        empty = path.stat().st_size
        async with open_store(path) as store, DurableEngine(store) as engine:
            await engine.run(definition, turns, execution_id="agent")
            record = await engine.load("agent")
            history = await store.load_checkpoints("agent")
        grown = (path.stat().st_size - empty) / 1e6
    seconds: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        check_replay(definition, record, history)
        seconds.append(time.perf_counter() - began)
    return len(history), grown, median(seconds)


def main(*turns: str) -> None:
    set_tracing_disabled(True)
    print("| framework | turns | rows | MB | replay, s |\n|---|---|---|---|---|")
    for definition in WORKFLOWS:
        for number in map(int, turns or ("10", "50", "200")):
            rows, grown, seconds = asyncio.run(measure(definition, number))
            name = definition.name.removeprefix("with_")
            print(f"| {name} | {number} | {rows} | {grown:.2f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
