"""Made-up graphs end in a workflow as they do in LangGraph, also over restarts."""

from __future__ import annotations

import asyncio
import operator
import random
import zlib
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    step_info,
    workflow,
)
from durable_workflow_sqlite.integrations.langgraph import run_graph
from durable_workflow_sqlite.integrations.langgraph.values import from_plain, to_plain
from tests.processes import until

MOST = 12
"""Entries in the log, after which a graph ends."""


class State(TypedDict, total=False):
    item: int
    last: Annotated[int, lambda one, other: max(one, other)]
    log: Annotated[list[str], operator.add]


def made_up(seed: int, note: Callable[[str], None], depth: int = 0) -> Any:
    """A graph whose nodes, edges and sub-graphs a seed chooses.

    What a node does depends on its input alone. Some are async, some run in a thread.
    """
    chosen = random.Random(seed)
    names = [f"n{number}" for number in range(chosen.randint(2, 4))]
    graph: Any = StateGraph(State)

    def next_of(name: str, state: State) -> list[Any]:
        log = state.get("log") or []
        told = repr((seed, name, sorted(log), state.get("item"), state.get("last")))
        by_state = random.Random(zlib.crc32(told.encode()))
        if len(log) >= MOST or by_state.random() < 0.15:
            return [END]
        if by_state.random() < 0.3:
            return [
                # With a longer log, or what `Send` begins would begin more and more.
                Send(by_state.choice(names), {"item": number, "log": [*log, *"sent"]})
                for number in range(by_state.randint(1, 3))
            ]
        return by_state.sample(names, by_state.randint(1, min(2, len(names))))

    def result_of(name: str, state: State) -> Any:
        size = len(state.get("log") or [])
        return {"log": [f"{depth}{name}:{state.get('item', '')}:{size}"], "last": size}

    for name in names:
        kind = chosen.choice(["async", "thread", "command", "graph" if depth == 0 else "async"])

        async def is_async(state: State, name: str = name) -> Any:
            note(name)
            if len(state.get("log") or []) % 2:
                await asyncio.sleep(0)
            return result_of(name, state)

        def in_a_thread(state: State, name: str = name) -> Any:
            note(name)
            return result_of(name, state)

        async def by_command(state: State, name: str = name) -> Any:
            note(name)
            return Command(update=result_of(name, state), goto=next_of(name, state))

        if kind == "graph":
            graph.add_node(name, made_up(seed + 1000 + len(name), note, depth + 1))
        elif kind == "command":
            graph.add_node(name, by_command, destinations=(*names, END))
        else:
            graph.add_node(name, is_async if kind == "async" else in_a_thread)
        if kind != "command":
            graph.add_conditional_edges(name, lambda state, name=name: next_of(name, state))
    graph.add_conditional_edges(START, lambda state: next_of("start", state) or [END])
    return graph.compile()


GIVEN: Any = {"log": [], "last": 0}
CONFIG: Any = {"recursion_limit": 25}


async def outcome(of: Any) -> Any:
    """The state at the end, or the class of the error: of too many steps, for example."""
    try:
        return await of
    except Exception as error:
        return type(error).__name__


async def ends_alike(seed: int) -> None:
    expected = await outcome(made_up(seed, lambda _: None).ainvoke(GIVEN, CONFIG))
    calls: list[tuple[str, int]] = []

    def note(_: str) -> None:
        info = step_info()
        calls.append((info.branch, info.step_index))

    graph = made_up(seed, note)

    @workflow(name="made up")
    async def run(ctx: WorkflowContext) -> Any:
        await ctx.wait_signal("begin")
        found = await outcome(run_graph(ctx, graph, GIVEN, name="g", config=CONFIG))
        await ctx.wait_signal("end")
        return found

    async with SqliteCheckpointStore.in_memory() as store:
        for signal in ("begin", "end"):
            async with DurableEngine(store, workflows=[run]) as engine:
                handle = await engine.start(run, execution_id="1")
                await handle.signal(signal)
                if signal == "end":
                    assert await handle.result() == expected
                    break

                async def is_at_the_end() -> bool:
                    return any(one.step_name == "end" for one in await store.load_checkpoints("1"))

                await until(is_at_the_end)
    assert len(set(calls)) == len(calls), "a node ran twice"


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(4), id="a few"),
        pytest.param(range(4, 150), id="many", marks=pytest.mark.campaign),
    ],
)
async def test_made_up_graphs_end_as_they_do_in_langgraph(seeds: range) -> None:
    for seed in seeds:
        try:
            await ends_alike(seed)
        except Exception as error:
            error.add_note(f"of seed {seed}")
            raise


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda one: (
        st.lists(one, max_size=3)
        | st.tuples(one, one)
        | st.dictionaries(st.text("$ab", max_size=3) | st.integers() | st.none(), one, max_size=3)
        | st.builds(Send, st.text(max_size=3), one)
    ),
    max_leaves=8,
)


@pytest.mark.campaign
@settings(max_examples=15, deadline=None)
@given(plain)
def test_nested_values_come_back_equal(value: Any) -> None:
    serde = JsonPlusSerializer()
    back = from_plain(to_plain(value, serde), serde)
    assert repr(back) == repr(value)
