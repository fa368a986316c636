"""An agent of pydantic-ai that `make demo-agent` kills in the middle: python FILE [FOLDER].

A function plays the model. Name a real one instead, as in `Agent("openai:gpt-5", name=...)`.
"""

import asyncio
import sys
import tempfile

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow
from durable_workflow_sqlite.integrations.pydantic_ai import WorkflowDurability


async def play_model(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    print("called: model", flush=True)
    await asyncio.sleep(0.2)
    known = [part for one in messages for part in one.parts if isinstance(part, ToolReturnPart)]
    if not known:
        asked = [ToolCallPart("weather", {"city": city}) for city in ("Rome", "Oslo", "Bern")]
        return ModelResponse(parts=asked)
    if len(known) == 3:
        return ModelResponse(parts=[ToolCallPart("book", {"city": "Rome"})])
    return ModelResponse(parts=[TextPart(f"It is warm: {known[-1].content}.")])


agent = Agent(FunctionModel(play_model), name="traveller", capabilities=[WorkflowDurability()])


@agent.tool_plain
async def weather(city: str) -> int:
    print(f"called: weather of {city}", flush=True)
    await asyncio.sleep(0.5 if city == "Rome" else 0.2)
    return {"Rome": 27, "Oslo": 14, "Bern": 19}[city]


@agent.tool_plain
async def book(city: str) -> str:
    print(f"called: book for {city}", flush=True)
    return f"a train to {city}"


@workflow
async def travel(ctx: WorkflowContext, wish: str) -> str:
    return (await agent.run(wish)).output


async def main(folder: str) -> None:
    async with open_store(f"{folder}/workflows.db") as store, DurableEngine(store) as engine:
        print(await engine.run(travel, "I want it warm", execution_id="travel-1"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(*sys.argv[1:] or [place]))
