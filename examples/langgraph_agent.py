"""An agent of LangGraph is killed while it calls a tool, and goes on: python langgraph_agent.py"""

import asyncio
import os
import subprocess
import sys
import tempfile
from typing import TypedDict

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send, interrupt

from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow
from durable_workflow_sqlite.integrations.langgraph import run_graph

MODEL = FakeListChatModel(responses=["Iceland has 4 people a square kilometre."])
FACTS = {"people": 380_000, "area": 103_000}


class Fact(TypedDict):
    what: str


async def look_up(state: Fact) -> dict[str, list[tuple[str, str]]]:
    print(f"tool: {state['what']}", flush=True)
    if state["what"] == "area" and os.environ.get("DIE"):
        await asyncio.sleep(0.5)  # the other tool is done by then
        os.kill(os.getpid(), 9)
    return {"messages": [("user", f"{state['what']}: {FACTS[state['what']]}")]}


async def answer(state: MessagesState) -> MessagesState:
    return {"messages": [await MODEL.ainvoke(state["messages"])]}


async def mail(state: MessagesState) -> dict[str, list[tuple[str, str]]]:
    return {"messages": [("user", f"sent by {interrupt(state['messages'][-1].text)}")]}


graph = StateGraph(MessagesState).add_node(look_up).add_node(answer).add_node(mail)
graph.add_conditional_edges(START, lambda _: [Send("look_up", {"what": one}) for one in FACTS])
graph.add_edge("look_up", "answer").add_edge("answer", "mail").add_edge("mail", END)
AGENT = graph.compile()


@workflow
async def agent(ctx: WorkflowContext, question: str) -> str:
    state = await run_graph(ctx, AGENT, {"messages": [("user", question)]})
    return str(state["messages"][-1].text)


async def main(file: str) -> None:
    async with open_store(file) as store, DurableEngine(store, workflows=[agent]) as engine:
        chat = await engine.start(agent, "How crowded is Iceland?", execution_id="chat-1")
        while not (questions := await engine.questions()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        print(f"May we mail {questions[0].question!r}?")
        await engine.answer("chat-1", "mail", "kim", by="kim")
        print(await chat.result())


if __name__ == "__main__" and len(sys.argv) > 1:
    asyncio.run(main(sys.argv[1]))
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for die in ("1", ""):
            print(f"--- a process{' that is killed' if die else ''}", flush=True)
            command = [sys.executable, __file__, f"{folder}/workflows.db"]
            subprocess.run(command, env={**os.environ, "DIE": die}, check=not die)
