"""An agent of the OpenAI Agents SDK that can be killed in the middle: python FILE [FOLDER].

`make demo-agent ARGS=openai_agent.py` does that. A function plays the model. Without `model=`, the
SDK asks OpenAI.
"""

import asyncio
import sys
import tempfile

from agents import Agent, ModelResponse, Usage, function_tool, set_tracing_disabled
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call

from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow
from durable_workflow_sqlite.integrations.openai_agents import run


async def play_model(asked: ModelCall) -> ModelResponse:
    print("called: model", flush=True)
    await asyncio.sleep(0.2)
    known = [one["output"] for one in asked.input if one.get("type") == "function_call_output"]
    said = {
        0: [function_call("weather", {"city": one}, call_id=one) for one in ("Rome", "Oslo")],
        2: [function_call("book", {"city": "Rome"}, call_id="book")],
        3: [assistant_message(f"It is warm: {''.join(known[-1:])}.")],
    }
    usage = Usage(requests=1, input_tokens=100, output_tokens=20, total_tokens=120)
    return ModelResponse(output=[*said[len(known)]], usage=usage, response_id=None)


@function_tool
async def weather(city: str) -> int:
    print(f"called: weather of {city}", flush=True)
    await asyncio.sleep(0.5 if city == "Rome" else 0.2)
    return {"Rome": 27, "Oslo": 14}[city]


@function_tool
async def book(city: str) -> str:
    print(f"called: book for {city}", flush=True)
    return f"a train to {city}"


@workflow
async def travel(ctx: WorkflowContext, wish: str) -> str:
    model = ScriptedModel([ModelStep.respond(play_model)] * 3)
    agent = Agent("traveller", model=model, tools=[weather, book])
    return str((await run(agent, wish)).final_output)


async def main(folder: str) -> None:
    async with open_store(f"{folder}/workflows.db") as store, DurableEngine(store) as engine:
        print(await engine.run(travel, "I want it warm", execution_id="travel-1"))


if __name__ == "__main__":
    set_tracing_disabled(True)
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(*sys.argv[1:] or [place]))
