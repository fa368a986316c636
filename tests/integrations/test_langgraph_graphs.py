"""Graphs of LangGraph in workflow functions: each node a step, each interrupt a question."""

from __future__ import annotations

import asyncio
import inspect
import operator
import os
import random
import sqlite3
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.config import get_stream_writer
from langgraph.func import task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy, Send, TimeoutPolicy, interrupt
from pydantic import BaseModel

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    NonDeterminismError,
    SqliteCheckpointStore,
    StepTimeoutError,
    WorkflowCancelledError,
    WorkflowCodeError,
    WorkflowContext,
    step_info,
    workflow,
)
from durable_workflow_sqlite import RetryPolicy as Attempts
from durable_workflow_sqlite.integrations.langgraph import run_graph
from durable_workflow_sqlite.integrations.langgraph.values import (
    from_plain,
    to_compare,
    to_plain,
)
from durable_workflow_sqlite.testing import Sandbox
from tests.own_tables import Database
from tests.processes import Harm, Journal, a_process, open_harmed, run_process, until

FULL = bool(os.environ.get("DURABLE_CRASH_FULL"))

QUICK = Attempts(max_attempts=3, initial_delay=timedelta(milliseconds=1))


class State(TypedDict, total=False):
    topic: str
    item: str
    log: Annotated[list[str], operator.add]


def noted(journal: Journal | None) -> None:
    """Note that the step runs whose action calls this."""
    info = step_info()
    if journal is not None:
        journal.note(f"{info.branch}/{info.step_index}")


def report(journal: Journal | None = None) -> Any:
    """A graph with nodes side by side, a sub-graph with a question, and edges that choose."""

    async def plan(state: State) -> Any:
        noted(journal)
        return {"topic": state["topic"].upper()}

    async def look(state: State) -> Any:
        noted(journal)
        await asyncio.sleep(0.001 * len(state["item"]))
        return {"log": [f"saw {state['item']}"]}

    def write(state: State) -> Any:  # in a thread
        noted(journal)
        return {"log": [f"{state['topic']}: {len(state['log'])}"]}

    async def check(state: State) -> Any:
        noted(journal)
        return {"log": [f"checked {interrupt('publish it?')}"]}

    async def again(state: State) -> Any:
        noted(journal)
        return {"log": ["checked again"]}

    async def publish(state: State) -> Any:
        noted(journal)
        return {"log": ["published"]}

    review: Any = StateGraph(State)
    review.add_node("check", check)
    review.add_node("again", again)
    review.add_edge(START, "check")
    review.add_conditional_edges("check", lambda one: "again" if one["log"] else END)

    graph: Any = StateGraph(State)
    for node in (plan, look, write, publish):
        graph.add_node(node.__name__, node)
    graph.add_node("review", review.compile())
    graph.add_edge(START, "plan")
    graph.add_conditional_edges(
        "plan", lambda _: [Send("look", {"item": "x" * one}) for one in range(3)], ["look"]
    )
    graph.add_edge("look", "write")
    graph.add_edge("write", "review")
    graph.add_conditional_edges("review", lambda one: "publish" if "x" not in one else END)
    graph.add_edge("publish", END)
    return graph.compile()


def reported(topic: str, answer: str) -> list[str]:
    before = ["saw ", "saw x", "saw xx", f"{topic.upper()}: 3"]
    return [*before, *before, f"checked {answer}", "checked again", "published"]


async def answer_all(client: Client, answers: dict[str, str]) -> None:
    """Answer each question, as people do; which answer is by the beginning of its branch."""
    for question in await client.questions():
        (answer,) = [one for of, one in answers.items() if question.branch.startswith(of)]
        if not question.is_answered:
            await client.answer(question.workflow_execution_id, question.signal_name, answer)


async def answered(client: Client, handle: Any, answers: dict[str, str]) -> Any:
    result = asyncio.ensure_future(handle.result())
    while not result.done():
        await answer_all(client, answers)
        await asyncio.wait([result], timeout=0.01)
    return await result


@asynccontextmanager
async def an_engine(**settings: Any) -> AsyncIterator[DurableEngine]:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store, **settings) as one:
        yield one


def two_reports(journal: Journal | None) -> Any:
    @workflow(name="two reports")
    async def both(ctx: WorkflowContext) -> list[list[str]]:
        graph = report(journal)
        found = await asyncio.gather(
            *(
                run_graph(ctx, graph, {"topic": one, "log": []}, name=one, retry=QUICK)
                for one in ("cups", "pots")
            )
        )
        return [one["log"] for one in found]

    return both


BOTH = {"cups": "yes", "pots": "no"}
EXPECTED = [reported("cups", "yes"), reported("pots", "no")]


async def run_both(store: Any, journal: Journal | None) -> Any:
    both = two_reports(journal)
    async with DurableEngine(store, workflows=[both]) as engine:
        handle = await engine.start(both, execution_id="1")
        return await answered(engine, handle, BOTH)


@pytest.mark.parametrize("kind", ["file", "postgres"])
async def test_two_runs_side_by_side_each_get_their_own_answers(kind: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with Database(kind, tmp_path).store() as store:
        assert await run_both(store, journal) == EXPECTED
        assert await run_both(store, journal) == EXPECTED  # it is over
    # Each node once, and the one that was interrupted twice.
    assert len(journal.lines) == len(set(journal.lines)) == 2 * (1 + 3 + 1 + 2 + 1 + 1)


def completed(file: Path) -> set[str]:
    """The steps that have a result, as the journal names them."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            "select branch || '/' || step_index from step_checkpoints where status = 'COMPLETED'"
        )
        return {one for (one,) in rows}


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([11], id="some"),
        pytest.param(count(1), id="every", marks=pytest.mark.campaign),
    ],
)
def test_after_a_kill_at_a_commit_no_completed_node_runs_again(
    numbers: Any, is_before: bool, tmp_path: Path
) -> None:
    for number in numbers:
        file, journal = tmp_path / f"{number}.db", Journal(tmp_path / f"{number}.journal")

        async def run(harm: Any, file: Path = file, journal: Journal = journal) -> None:
            async with open_harmed(file, harm) as store:
                assert await run_both(store, journal) == EXPECTED

        was_killed = run_process(lambda n=number, r=run: r(Harm(n, is_before)))  # type: ignore[misc]
        done = completed(file)
        before = {one: journal.lines.count(one) for one in done}
        asyncio.run(run(None))
        assert {one: journal.lines.count(one) for one in done} == before, number
        if not was_killed:
            assert number > 20, "no commit was harmed"
            return


@pytest.mark.campaign
@pytest.mark.parametrize("lines", range(1, 17, 3))
def test_after_a_kill_on_postgresql_no_completed_node_runs_again(
    lines: int, tmp_path: Path
) -> None:
    database, journal = Database("postgres", tmp_path), Journal(tmp_path / "journal")

    async def run() -> None:
        async with database.store() as store:
            assert await run_both(store, journal) == EXPECTED

    async def done() -> set[str]:
        async with database.store() as store:
            found = await store.load_checkpoints("1")
        return {f"{one.branch}/{one.step_index}" for one in found if one.status == "COMPLETED"}

    with a_process(lambda _: asyncio.run(run())) as child:
        asyncio.run(until(lambda: len(journal.lines) >= lines))
        child.kill()
    completed_before = asyncio.run(done())
    before = {one: journal.lines.count(one) for one in completed_before}
    asyncio.run(run())
    assert {one: journal.lines.count(one) for one in completed_before} == before
    assert len(set(journal.lines)) == 18


@pytest.mark.crash
@pytest.mark.parametrize(
    "times",
    [2, pytest.param(100 if FULL else 8, marks=pytest.mark.campaign)],
    ids=["some", "many"],
)
def test_engines_that_end_at_random_moments_do_no_harm(times: int, tmp_path: Path) -> None:
    chosen = random.Random(times)
    for number in range(times):
        file, journal = tmp_path / f"{number}.db", Journal(tmp_path / f"{number}.journal")

        async def run(file: Path = file, journal: Journal = journal) -> None:
            both = two_reports(journal)
            async with SqliteCheckpointStore.file(file) as store:
                for _ in range(3):
                    done = completed(file)
                    before = [journal.lines.count(one) for one in done]
                    async with DurableEngine(store, workflows=[both]) as engine:
                        handle = await engine.start(both, execution_id="1")
                        until_end = asyncio.ensure_future(answered(engine, handle, BOTH))
                        await asyncio.wait([until_end], timeout=chosen.random() * 0.05)
                        until_end.cancel()
                        await asyncio.wait([until_end])
                    assert [journal.lines.count(one) for one in done] == before
                assert await run_both(store, journal) == EXPECTED

        asyncio.run(run())


async def test_another_prompt_on_a_replay_stops_the_execution() -> None:
    prompts = ["cups"]

    @workflow
    async def prompted(ctx: WorkflowContext) -> Any:
        return (await run_graph(ctx, report(), {"topic": prompts[0], "log": []}))["log"]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[prompted]) as engine:
            await engine.start(prompted, execution_id="1")
            await until(engine.questions)
        prompts[0] = "pots"
        async with DurableEngine(store, workflows=[prompted]) as engine:
            handle = await engine.start(prompted, execution_id="1")
            with pytest.raises(NonDeterminismError, match=r"the value of its `of` differs"):
                await handle.result()
        prompts[0] = "cups"
        async with DurableEngine(store, workflows=[prompted]) as engine:
            handle = await engine.start(prompted, execution_id="1")
            assert await answered(engine, handle, {"": "yes"}) == reported("cups", "yes")


async def test_nodes_side_by_side_ask_at_once() -> None:
    async def ask(state: State) -> Any:
        first = interrupt(f"first of {state['item']}?")
        return {"log": [f"{state['item']}: {first}, {interrupt({'second': first})}"]}

    graph: Any = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_conditional_edges(START, lambda _: [Send("ask", {"item": one}) for one in "ab"])
    compiled = graph.compile()

    @workflow
    async def asking(ctx: WorkflowContext) -> Any:
        return (await run_graph(ctx, compiled, {"log": []}, name="asking"))["log"]

    async with an_engine() as engine:
        handle = await engine.start(asking, execution_id="1")
        for turn in ("1", "2"):

            async def opened() -> Any:
                found = [one for one in await engine.questions() if not one.is_answered]
                return found if len(found) == 2 else None

            await until(opened)
            first, second = sorted(await opened(), key=lambda one: one.branch)
            assert first.name == second.name == "ask"
            if turn == "1":
                assert [first.question, second.question] == ["first of a?", "first of b?"]
            else:
                assert [first.details, second.details] == [{"second": "a1"}, {"second": "b1"}]
            for one, letter in ((second, "b"), (first, "a")):
                await engine.answer("1", one.signal_name, f"{letter}{turn}")
        assert await handle.result() == ["a: a1, a2", "b: b1, b2"]


@pytest.mark.skipif(
    "response_schema" not in inspect.signature(interrupt).parameters,
    reason="this release of LangGraph has no schema of an answer",
)
async def test_an_answer_that_does_not_fit_the_schema_is_asked_for_again() -> None:
    class Choice(BaseModel):
        ok: bool

    async def choose(state: State) -> Any:
        return {"log": [str(interrupt("really?", response_schema=Choice))]}

    graph: Any = StateGraph(State)
    graph.add_node("choose", choose)
    graph.add_edge(START, "choose")
    compiled = graph.compile()
    asked: list[Any] = []

    async def ask(branch: WorkflowContext, node: str, value: Any) -> Any:
        asked.append((node, value))
        return await branch.ask(node, value, to="finance", type=dict)

    @workflow
    async def choosing(ctx: WorkflowContext) -> Any:
        return (await run_graph(ctx, compiled, {"log": []}, ask=ask))["log"]

    async with an_engine() as engine:
        handle = await engine.start(choosing, execution_id="1")
        for answer in ({"ok": "perhaps"}, {"ok": True}):

            async def opened() -> Any:
                return [one for one in await engine.questions(to="finance") if not one.is_answered]

            await until(opened)
            await engine.answer("1", (await opened())[0].signal_name, answer)
        assert await handle.result() == ["ok=True"]
    assert asked == [("choose", "really?")] * 2


async def test_a_sub_graph_leaves_by_a_command_for_its_parent() -> None:
    async def inner(state: State) -> Any:
        return Command(goto="far", update={"log": ["inner"]}, graph=Command.PARENT)

    async def far(state: State) -> Any:
        return {"log": ["far"]}

    below: Any = StateGraph(State)
    below.add_node("inner", inner)
    below.add_edge(START, "inner")
    graph: Any = StateGraph(State)
    graph.add_node("below", below.compile())
    graph.add_node("far", far)
    graph.add_edge(START, "below")
    compiled = graph.compile()
    plain = await compiled.ainvoke({"log": []})

    @workflow
    async def leaving(ctx: WorkflowContext) -> Any:
        log = (await run_graph(ctx, compiled, {"log": []}))["log"]
        await ctx.wait_signal("go")
        return log

    async with SqliteCheckpointStore.in_memory() as store:
        for turn in range(2):
            async with DurableEngine(store, workflows=[leaving]) as engine:
                handle = await engine.start(leaving, execution_id="1")
                if turn:
                    await handle.signal("go")
                    assert await handle.result() == plain["log"] == ["inner", "far"]
                else:
                    await until(lambda: _waits(store))


async def _waits(store: Any) -> bool:
    return any(one.kind == "SIGNAL" for one in await store.load_checkpoints("1"))


async def test_a_node_that_fails_is_retried_by_either_policy() -> None:
    calls: list[str] = []

    async def fail(state: State) -> Any:
        info = step_info()
        calls.append(f"{info.branch}/{info.attempt}")
        if len(calls) < 4:
            raise ConnectionError(f"call {len(calls)}")
        return {"log": ["done"]}

    graph: Any = StateGraph(State)
    policy = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False)
    graph.add_node("fail", fail, retry_policy=policy)
    graph.add_edge(START, "fail")
    compiled = graph.compile()

    @workflow
    async def failing(ctx: WorkflowContext) -> Any:
        attempts = Attempts(max_attempts=2, initial_delay=timedelta(milliseconds=1))
        return (await run_graph(ctx, compiled, {"log": []}, name="a", retry=attempts))["log"]

    async with an_engine() as engine:
        assert await engine.run(failing) == ["done"]
    assert calls == ["a/1:fail/1", "a/1:fail/2", "a/1:fail#2/1", "a/1:fail#2/2"]


async def test_the_error_of_a_node_can_be_caught() -> None:
    async def fail(state: State) -> Any:
        raise LookupError("no such cup")

    graph: Any = StateGraph(State)
    graph.add_node("fail", fail)
    graph.add_edge(START, "fail")
    compiled = graph.compile()

    @workflow
    async def catching(ctx: WorkflowContext) -> str:
        try:
            await run_graph(ctx, compiled, {"log": []})
        except LookupError as error:
            return str(error)
        return "nothing"

    async with an_engine() as engine:
        assert await engine.run(catching) == "no such cup"


async def test_messages_keep_their_ids_over_a_restart() -> None:
    async def model(state: MessagesState) -> Any:
        return {"messages": [AIMessage(f"you said {state['messages'][-1].content}")]}

    async def forget(state: MessagesState) -> Any:
        interrupt("forget it?")
        return {"messages": [RemoveMessage(id=str(state["messages"][0].id))]}

    async def last(state: MessagesState) -> Any:
        return {"messages": ("user", "bye")}

    graph: Any = StateGraph(MessagesState)
    for node in (model, forget, last):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "model")
    graph.add_edge("model", "forget")
    graph.add_edge("forget", "last")
    compiled = graph.compile()

    @workflow
    async def talk(ctx: WorkflowContext, text: str) -> Any:
        given = {"messages": [{"role": "user", "content": text}]}
        found = await run_graph(ctx, compiled, given, name="talk")
        await ctx.wait_signal("go")
        return [[type(one).__name__, one.content, one.id] for one in found["messages"]]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[talk]) as engine:
            await engine.start(talk, "hello", execution_id="1")
            await until(engine.questions)
        async with DurableEngine(store, workflows=[talk]) as engine:
            await engine.answer("1", "forget", "yes")
            await engine.start(talk, "hello", execution_id="1")
            await until(lambda: _waits_for_go(store))
        async with DurableEngine(store, workflows=[talk]) as engine:
            handle = await engine.start(talk, "hello", execution_id="1")
            await handle.signal("go")
            found = await handle.result()
    assert [one[:2] for one in found] == [
        ["AIMessage", "you said hello"],
        ["HumanMessage", "bye"],
    ]
    assert all(one[2] for one in found)


async def _waits_for_go(store: Any) -> bool:
    return any(one.step_name == "go" for one in await store.load_checkpoints("1"))


class Model(GenericFakeChatModel):
    """A model that calls two tools at once, and then answers."""

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        return self


async def test_an_agent_of_langgraph_runs_its_tools_as_steps() -> None:
    calls: list[str] = []

    async def price(item: str) -> str:
        """The price of an item."""
        info = step_info()
        calls.append(f"{info.branch} {item}")
        return f"{item} costs 7"

    wanted = [
        {"name": "price", "args": {"item": one}, "id": one, "type": "tool_call"}
        for one in ("cup", "pot")
    ]
    said = [AIMessage("", tool_calls=wanted), AIMessage("both cost 7")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langgraph.prebuilt import create_react_agent

        agent = create_react_agent(Model(messages=iter(said)), [price])

    @workflow
    async def ask_agent(ctx: WorkflowContext) -> Any:
        given = {"messages": [HumanMessage("what do they cost?")]}
        found = (await run_graph(ctx, agent, given, name="agent"))["messages"]
        await ctx.wait_signal("go")
        return [[type(one).__name__, one.content] for one in found]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[ask_agent]) as engine:
            await engine.start(ask_agent, execution_id="1")
            await until(lambda: _waits_for_go(store))
        async with DurableEngine(store, workflows=[ask_agent]) as engine:
            handle = await engine.start(ask_agent, execution_id="1")
            await handle.signal("go")
            assert await handle.result() == [
                ["HumanMessage", "what do they cost?"],
                ["AIMessage", ""],
                ["ToolMessage", "cup costs 7"],
                ["ToolMessage", "pot costs 7"],
                ["AIMessage", "both cost 7"],
            ]
    assert sorted(calls) == ["agent/2:tools:0 cup", "agent/2:tools:1 pot"]


async def test_what_a_node_streams_is_in_the_stream_of_its_step() -> None:
    async def tell(state: State) -> Any:
        writer = get_stream_writer()
        writer({"done": 1})
        writer(AIMessage("half", id="7"))
        return {"log": ["told"]}

    graph: Any = StateGraph(State)
    graph.add_node("tell", tell)
    graph.add_edge(START, "tell")
    compiled = graph.compile()

    @workflow
    async def telling(ctx: WorkflowContext) -> Any:
        return (await run_graph(ctx, compiled, {"log": []}))["log"]

    async with an_engine() as engine:
        assert await engine.run(telling, execution_id="1") == ["told"]
        items = [one.value async for one in engine.follow("1") if hasattr(one, "value")]
    assert items[0] == {"done": 1}
    assert items[1]["$message"]["data"]["content"] == "half"


async def test_an_inline_node_uses_the_context_and_runs_another_graph() -> None:
    contexts: list[WorkflowContext] = []

    async def lead(state: State) -> Any:
        ctx = WorkflowContext.current()
        assert ctx is not None
        contexts.append(ctx)
        found = [await run_graph(ctx, report(), {"topic": one, "log": []}) for one in ("a", "b")]
        return {"log": [one["log"][-1] for one in found] + [interrupt("enough?")]}

    graph: Any = StateGraph(State)
    graph.add_node("lead", lead)
    graph.add_edge(START, "lead")
    compiled = graph.compile()

    @workflow
    async def leading(ctx: WorkflowContext) -> Any:
        return (await run_graph(ctx, compiled, {"log": []}, name="top", inline=["lead"]))["log"]

    async with an_engine() as engine:
        handle = await engine.start(leading, execution_id="1")
        found = await answered(engine, handle, {"": "yes"})
        assert found == ["published", "published", "yes"]


async def test_an_execution_is_cancelled_in_the_middle_of_a_graph() -> None:
    @workflow
    async def long(ctx: WorkflowContext) -> Any:
        return (await run_graph(ctx, report(), {"topic": "cups", "log": []}))["log"]

    async with an_engine() as engine:
        handle = await engine.start(long, execution_id="1")
        await until(engine.questions)
        await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()


async def test_what_would_not_work_is_refused() -> None:
    @task
    async def part() -> str:
        return "part"

    async def calls_a_task(state: State) -> Any:
        return {"log": [await part()]}

    async def asks_within(state: State) -> Any:
        inner: Any = StateGraph(State)
        inner.add_node("asks", asks)
        inner.add_edge(START, "asks")
        return await inner.compile().ainvoke({"log": []})

    async def asks(state: State) -> Any:
        return {"log": [interrupt("now?")]}

    def one_node(node: Any, **options: Any) -> Any:
        graph: Any = StateGraph(State)
        graph.add_node("node", node)
        graph.add_edge(START, "node")
        return graph.compile(**options)

    good = one_node(asks)
    cases: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
        (TypeError, "graph must be a compiled StateGraph", "graph", {}),
        (ValueError, "leave out interrupt_before", one_node(asks, interrupt_before=["node"]), {}),
        (
            ValueError,
            "callbacks would be called again",
            good,
            {"config": {"callbacks": [object()]}},
        ),
        (ValueError, "`inline` names nodes that", good, {"inline": ["other"]}),
        (RuntimeError, "cannot call a @task", one_node(calls_a_task), {}),
        (RuntimeError, "that node 'node' calls itself", one_node(asks_within), {}),
    ]
    seen: list[str] = []

    @workflow(stops_on=())
    async def wrong(ctx: WorkflowContext) -> None:
        for kind, match, graph, options in cases:
            with pytest.raises(kind, match=match):
                await run_graph(ctx, graph, {"log": []}, **options)
            seen.append(match)
        with pytest.raises(TypeError, match="ctx must be the context"):
            await run_graph(None, good, {})  # type: ignore[arg-type]

    async with an_engine() as engine:
        await engine.run(wrong)
    assert len(seen) == len(cases)


class Colour(BaseModel):
    name: Literal["red", "blue"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, True, 1.5, "a", {"b": [None]}],
        (1, ("a", [2])),
        {"$message": 1},
        {1: "a", None: 2},
        float("inf"),
        b"bytes",
        {"a"},
        Send("node", {"a": (1,)}),
        Command(goto=[Send("node", 1), "other"], update={"a": 1}, graph="x"),
        HumanMessage("hello", id="1"),
        ToolMessage("done", tool_call_id="1", artifact={"a": 1}),
        AIMessage("", tool_calls=[{"name": "a", "args": {}, "id": "1", "type": "tool_call"}]),
        [RemoveMessage(id="1"), Colour(name="red")],
    ],
    ids=repr,
)
def test_values_come_back_equal(value: Any) -> None:
    serde = JsonPlusSerializer()
    data = to_plain(value, serde)
    back = from_plain(data, serde)
    assert back == value
    assert type(back) is type(value)
    assert to_compare(back, serde) == to_compare(value, serde)


def test_of_what_cannot_be_written_a_fingerprint_has_the_class() -> None:
    serde = JsonPlusSerializer()
    assert to_compare([object(), {3, 1, 2}], serde) == [
        ["$object", "builtins.object"],
        ["$set", ["1", "2", "3"]],
    ]
    with pytest.raises(TypeError):
        to_plain(object(), serde)


def test_a_sandbox_crashes_a_graph_and_checks_its_replays() -> None:
    @workflow
    async def sandboxed(ctx: WorkflowContext) -> list[str]:
        state = await run_graph(ctx, report(), {"topic": "cups", "log": []}, name="a")
        await ctx.sleep("a day", timedelta(days=1))
        return list(state["log"])

    with Sandbox([sandboxed]) as durable:
        durable.crash_at("look", "after")
        durable.crash_at("check", "recorded")
        execution = durable.start(sandboxed)
        execution.answer("check", "yes")
        assert execution.result() == reported("cups", "yes")


async def test_the_timeout_of_a_node_is_that_of_its_step() -> None:
    async def slow(state: State) -> Any:
        await asyncio.sleep(60)

    def with_timeout(timeout: Any) -> Any:
        graph: Any = StateGraph(State)
        graph.add_node("slow", slow, timeout=timeout)
        graph.add_edge(START, "slow")
        return graph.compile()

    @workflow
    async def timed(ctx: WorkflowContext) -> str:
        with pytest.raises(ValueError, match="idle_timeout"):
            await run_graph(ctx, with_timeout(TimeoutPolicy(idle_timeout=1)), {"log": []})
        try:
            await run_graph(ctx, with_timeout(0.01), {"log": []})
        except StepTimeoutError as error:
            return str(error.step_name)
        return "nothing"

    async with an_engine() as engine:
        assert await engine.run(timed) == "slow"


async def test_what_a_node_does_to_its_input_does_not_change_the_state() -> None:
    async def change(state: State) -> Any:
        state["log"].append("changed")
        return {"topic": "cups"}

    graph: Any = StateGraph(State)
    graph.add_node("change", change)
    graph.add_edge(START, "change")
    compiled = graph.compile()

    @workflow
    async def changing(ctx: WorkflowContext) -> Any:
        return await run_graph(ctx, compiled, {"log": ["as it was"]})

    async with an_engine() as engine:
        assert await engine.run(changing) == {"topic": "cups", "log": ["as it was"]}


async def test_too_many_steps_stop_the_execution_until_more_are_allowed() -> None:
    limits = [3]

    @workflow
    async def endless(ctx: WorkflowContext) -> Any:
        config: Any = {"recursion_limit": limits[0]}
        return (await run_graph(ctx, report(), {"topic": "a", "log": []}, config=config))["log"]

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[endless]) as engine:
            with pytest.raises(WorkflowCodeError, match="GraphRecursionError"):
                await engine.run(endless, execution_id="1")
        limits[0] = 30
        async with DurableEngine(store, workflows=[endless]) as engine:
            handle = await engine.start(endless, execution_id="1")
            assert await answered(engine, handle, {"": "yes"}) == reported("a", "yes")


async def test_an_inline_node_sleeps_and_the_edges_after_it_are_a_step() -> None:
    async def wait(state: State) -> Any:
        ctx = WorkflowContext.current()
        assert ctx is not None
        await ctx.sleep("a little", timedelta(milliseconds=1))
        return {"log": ["waited"]}

    async def last(state: State) -> Any:
        return {"log": ["last"]}

    def choose(state: State) -> str:  # in a thread
        return "last" if len(state["log"]) == 1 else END

    graph: Any = StateGraph(State)
    graph.add_node("wait", wait)
    graph.add_node("last", last)
    graph.add_edge(START, "wait")
    graph.add_conditional_edges("wait", choose)
    graph.add_edge("last", END)
    compiled = graph.compile()

    @workflow
    async def waiting(ctx: WorkflowContext) -> Any:
        return (await run_graph(ctx, compiled, {"log": []}, inline=["wait"]))["log"]

    async with an_engine() as engine:
        assert await engine.run(waiting) == ["waited", "last"]
