"""An agent of LangGraph, on a fake model: `make demo-agent ARGS=langgraph_agent.py` kills it."""

import asyncio
import sys
import tempfile

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send, interrupt

from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow
from durable_workflow_sqlite.integrations.langgraph import run_graph


async def model(state: MessagesState) -> MessagesState:
    print("called: model", flush=True)
    answer = AIMessage("It is warm." if len(state["messages"]) > 1 else "Rome Oslo")
    answer.usage_metadata = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
    return {"messages": [await GenericFakeChatModel(messages=iter([answer])).ainvoke("")]}


async def weather(state: MessagesState) -> MessagesState:
    print(f"called: weather of {(city := state['messages'][0].text)}", flush=True)
    await asyncio.sleep(0.5 if city == "Rome" else 0.2)
    return {"messages": [AIMessage(f"{city} has {len(city) * 6} degrees.")]}


async def book(state: MessagesState) -> MessagesState:
    print("called: book", flush=True)
    return {"messages": [AIMessage(interrupt("It is warm in Rome. What may I book?"))]}


def next_nodes(state: MessagesState) -> list[Send] | str:
    cities = state["messages"][1].text.split() if len(state["messages"]) == 2 else []
    return [Send("weather", {"messages": [AIMessage(city)]}) for city in cities] or "book"


graph = StateGraph(MessagesState).add_node(model).add_node(weather).add_node(book)
graph.add_edge(START, "model").add_edge("weather", "model")
AGENT = graph.add_conditional_edges("model", next_nodes).compile()


@workflow
async def travel(ctx: WorkflowContext, wish: str) -> str:
    return str((await run_graph(ctx, AGENT, {"messages": [wish]}))["messages"][-1].text)


async def main(folder: str) -> None:
    async with open_store(f"{folder}/workflows.db") as store, DurableEngine(store) as engine:
        trip = await engine.start(travel, "I want it warm", execution_id="travel-1")
        while not await engine.questions():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await engine.answer("travel-1", "book", "a train to Rome", by="kim")
        print(f"It is warm: {await trip.result()}.")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if sys.argv[1:] else tempfile.mkdtemp()))
