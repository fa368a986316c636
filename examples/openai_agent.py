"""An agent of the OpenAI Agents SDK that is killed in the middle, and asks its model nothing twice.

    python openai_agent.py

Here a function plays the model, so it needs no key. Leave out `model=`, and the SDK asks OpenAI.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from agents import Agent, function_tool, set_tracing_disabled
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call

from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow
from durable_workflow_sqlite.integrations.openai_agents import StoreSession, run


def play(asked: ModelCall) -> list[Any]:
    print("the model is asked")
    known = [one["output"] for one in asked.input if one.get("type") == "function_call_output"]
    if len(known) == 2:
        return [assistant_message(f"{known[1]} people on {known[0]} km2")]
    return [function_call("look_up", {"what": ("area", "people")[len(known)]}, call_id=f"{known}")]


@function_tool
def look_up(what: str) -> int:
    print("the tool looks up the", what, flush=True)
    if what == "people" and "die" in sys.argv:
        os._exit(9)
    return {"area": 103_000, "people": 380_000}[what]


@workflow
async def chat(ctx: WorkflowContext, question: str) -> str:
    agent = Agent("guide", model=ScriptedModel([ModelStep.respond(play)] * 3), tools=[look_up])
    return str((await run(agent, question, session=StoreSession("kim"))).final_output)


async def main(folder: str) -> None:
    async with open_store(Path(folder, "workflows.db")) as store, DurableEngine(store) as engine:
        print(await engine.run(chat, "How many live in Iceland?", execution_id="chat-1"))


if __name__ == "__main__" and len(sys.argv) > 1:
    set_tracing_disabled(True)
    asyncio.run(main(sys.argv[1]))
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, __file__, place, "die"], check=False)
        print("killed while it called a tool; started again", flush=True)
        subprocess.run([sys.executable, __file__, place], check=True)
