"""The checkpointer for LangGraph: its conformance tests, kills, commits, pruning, both APIs."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowCodeError,
    WorkflowContext,
    blocking,
    open_store,
    workflow,
)
from durable_workflow_sqlite.integrations.langgraph import DurableSaver
from tests.own_tables import Database
from tests.processes import Harm, Journal, open_harmed, run_process

CONFIG: Any = {"configurable": {"thread_id": "1"}}
FULL = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}
"""How many tests of the conformance suite there are, by capability."""


class State(TypedDict):
    number: int
    log: Annotated[list[str], operator.add]


def joined(before: list[str], more: Iterable[list[str]]) -> list[str]:
    return before + [one for some in more for one in some]


class DeltaState(TypedDict):
    number: int
    log: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=4)]
    seldom: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=100)]


def counting(state: Any, until: int = 10) -> Any:
    """A graph that counts, a step for each number."""

    async def add(so_far: Any) -> Any:
        number = so_far["number"] + 1
        found: dict[str, Any] = {"number": number, "log": [str(number)]}
        if state is DeltaState and number == 2:
            found["seldom"] = ["two"]
        return found

    graph: Any = StateGraph(state)
    graph.add_node("add", add)
    graph.add_edge(START, "add")
    graph.add_conditional_edges("add", lambda one: END if one["number"] % until == 0 else "add")
    return graph


def fanning(note: Any) -> Any:
    """A graph with three nodes side by side, and a question."""

    async def look(state: Any) -> Any:
        note(f"look {state['number']}")
        return {"log": [f"saw {state['number']}"]}

    async def ask(state: Any) -> Any:
        note("ask")
        return {"log": [interrupt("go on?")]}

    async def tell(state: Any) -> Any:
        note("tell")
        return {"number": len(state["log"])}

    graph: Any = StateGraph(State)
    for node in (look, ask, tell):
        graph.add_node(node.__name__, node)
    graph.add_conditional_edges(
        START, lambda _: [Send("look", {"number": one}) for one in range(3)], ["look"]
    )
    graph.add_edge("look", "ask")
    graph.add_edge("ask", "tell")
    graph.add_edge("tell", END)
    return graph


class Counting:
    """A store that counts the commits that it is asked for."""

    def __init__(self, store: Any) -> None:
        self.read, self._write, self.commits = store.read, store.write, 0

    async def write(self, *args: Any) -> Any:
        self.commits += 1
        return await self._write(*args)


@pytest.mark.parametrize(
    "kind", ["memory", "file", pytest.param("postgres", marks=pytest.mark.campaign)]
)
async def test_it_passes_the_whole_conformance_suite(kind: str, tmp_path: Path) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        async with Database(kind, tmp_path).store() as store:
            yield store

    async with opened() as store:

        @checkpointer_test(name="DurableSaver")
        async def savers() -> AsyncIterator[DurableSaver]:
            yield DurableSaver(store)

        report = await validate(savers)  # type: ignore[arg-type]
    failures = [one for result in report.results.values() for one in result.failures]
    assert failures == []
    assert {name: one.tests_passed for name, one in report.results.items()} == FULL


@pytest.mark.parametrize("kind", ["file", "postgres"])
async def test_a_graph_goes_on_in_another_process_with_what_a_person_answers(
    kind: str, tmp_path: Path
) -> None:
    database = Database(kind, tmp_path)
    said: list[str] = []
    async with database.store() as store:
        graph = fanning(said.append).compile(checkpointer=DurableSaver(store))
        found = await graph.ainvoke({"number": 0, "log": []}, CONFIG)
        assert found["__interrupt__"][0].value == "go on?"
    async with database.store() as store:
        saver = DurableSaver(store)
        graph = fanning(said.append).compile(checkpointer=saver)
        found = await graph.ainvoke(Command(resume="yes"), CONFIG)
        assert found == {"number": 4, "log": ["saw 0", "saw 1", "saw 2", "yes"]}
        history = [one async for one in graph.aget_state_history(CONFIG)]
        assert [one.metadata["step"] for one in history] == [3, 2, 1, 0, -1]
        await saver.adelete_thread("1")
        assert [one async for one in saver.alist(None)] == []
    assert sorted(said) == ["ask", "ask", "look 0", "look 1", "look 2", "tell"]


async def killed_at(harm: Harm | None, file: Path, journal: Journal) -> None:
    """Run or continue the graph until it ends."""
    async with open_harmed(file, harm) as store:
        graph = fanning(journal.note).compile(checkpointer=DurableSaver(store))
        state = await graph.aget_state(CONFIG)
        given: Any = {"number": 0, "log": []} if state.created_at is None else None
        if state.created_at is None or state.next:
            if state.interrupts:
                given = Command(resume="yes")
            found = await graph.ainvoke(given, CONFIG, durability="sync")
            if "__interrupt__" in found:
                await graph.ainvoke(Command(resume="yes"), CONFIG, durability="sync")


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    "first",
    [
        pytest.param(1, id="every commit", marks=pytest.mark.campaign),
        pytest.param(3, id="a commit"),
    ],
)
def test_after_a_kill_at_a_commit_the_graph_goes_on_from_what_was_committed(
    first: int, is_before: bool, tmp_path: Path
) -> None:
    for number in count(first):
        file, journal = tmp_path / f"{number}.db", Journal(tmp_path / f"{number}.log")

        async def run(file: Path = file, journal: Journal = journal, number: int = number) -> None:
            await killed_at(Harm(number, is_before), file, journal)

        was_killed = run_process(run)
        before = len(journal.lines)
        asyncio.run(killed_at(None, file, journal))

        async def result(file: Path = file) -> Any:
            async with SqliteCheckpointStore.file(file) as store:
                graph = fanning(print).compile(checkpointer=DurableSaver(store))
                return (await graph.aget_state(CONFIG)).values

        assert asyncio.run(result()) == {"number": 4, "log": ["saw 0", "saw 1", "saw 2", "yes"]}
        if was_killed and not is_before:  # a node of the last step that was not over, at the most
            assert len(journal.lines) <= 6 + 3, (number, journal.lines)
        if not was_killed:
            assert number > 5, "no commit was harmed"
            assert journal.lines[before:] == []
            return
        if first != 1:
            return


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_a_step_of_a_graph_is_at_most_one_commit(durability: Any) -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        counted: Any = Counting(store)
        graph = counting(State).compile(checkpointer=DurableSaver(counted))
        await graph.ainvoke({"number": 0, "log": []}, CONFIG, durability=durability)
        # One for the input, one for each step: the first of them only begins.
        assert counted.commits <= (1 if durability == "exit" else 12)
        assert (await graph.aget_state(CONFIG)).values["number"] == 10


async def test_writers_side_by_side_share_commits() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        counted: Any = Counting(store)
        graph = counting(State).compile(checkpointer=DurableSaver(counted))
        configs: list[Any] = [{"configurable": {"thread_id": str(one)}} for one in range(20)]
        given = {"number": 0, "log": []}
        await asyncio.gather(*(graph.ainvoke(given, config) for config in configs))
        assert counted.commits < 60  # alone, each would need 12
        for config in configs:
            assert (await graph.aget_state(config)).values["log"][-1] == "10"


async def test_a_write_that_fails_fails_alone() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        saver = DurableSaver(store)
        good, bad = ({"configurable": {"thread_id": one, "checkpoint_ns": ""}} for one in "a\ud800")
        outcomes = await asyncio.gather(
            *(saver.aput(one, empty_checkpoint(), {}, {}) for one in (good, bad, good)),  # type: ignore[arg-type]
            return_exceptions=True,
        )
        assert [isinstance(one, UnicodeEncodeError) for one in outcomes] == [False, True, False]
        assert len([one async for one in saver.alist(None)]) == 2


@pytest.mark.parametrize("turns", range(8))
async def test_a_caller_that_is_cancelled_harms_no_other(turns: int) -> None:
    """turns: of the event loop, before that."""
    configs: list[Any] = [
        {"configurable": {"thread_id": f"{one}", "checkpoint_ns": ""}} for one in range(6)
    ]
    async with SqliteCheckpointStore.in_memory() as store:
        saver = DurableSaver(store)
        puts = [
            asyncio.create_task(saver.aput(config, empty_checkpoint(), {}, {}))
            for config in configs
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for number in (0, 2, 5):
            puts[number].cancel()
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        for number in (1, 3, 4):
            assert not isinstance(outcomes[number], BaseException), outcomes[number]
            assert await saver.aget_tuple(configs[number]) is not None
        for config in configs:
            await saver.aput(config, empty_checkpoint(), {}, {})
            assert await saver.aget_tuple(config) is not None


@pytest.mark.parametrize("kind", ["memory", pytest.param("postgres", marks=pytest.mark.campaign)])
@pytest.mark.parametrize("steps", [1, 2, 4, 6, 9, 11])
async def test_pruning_keeps_what_a_delta_channel_is_made_from(
    kind: str, steps: int, tmp_path: Path
) -> None:
    async with Database(kind, tmp_path).store() as store:
        saver = DurableSaver(store)
        graph = counting(DeltaState, steps).compile(checkpointer=saver)
        await graph.ainvoke({"number": 0, "log": ["0"], "seldom": []}, CONFIG)
        before = (await graph.aget_state(CONFIG)).values
        assert before["log"] == [str(one) for one in range(steps + 1)]
        assert before.get("seldom", []) == (["two"] if steps >= 2 else [])
        await saver.aprune(["1"])
        assert (await graph.aget_state(CONFIG)).values == before
        longer = counting(DeltaState, 13).compile(checkpointer=saver)
        after = await longer.ainvoke({"log": ["again"]}, CONFIG)
        assert after["log"][: steps + 2] == [*before["log"], "again"]
        assert after["number"] == 13
        again = (await longer.aget_state(CONFIG)).values
        assert again["log"] == after["log"]
        await saver.aprune(["1"], strategy="delete")
        assert [one async for one in saver.alist(CONFIG)] == []


async def test_pruning_deletes_what_comes_before_the_last_whole_value() -> None:
    class Often(TypedDict):
        number: int
        log: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=4)]

    async with SqliteCheckpointStore.in_memory() as store:
        saver = DurableSaver(store)
        graph = counting(Often, 18).compile(checkpointer=saver)
        await graph.ainvoke({"number": 0, "log": []}, CONFIG)
        assert len([one async for one in saver.alist(CONFIG)]) == 20
        await saver.aprune(["1"])
        kept = [one async for one in saver.alist(CONFIG)]
        assert 1 < len(kept) <= 5
        assert "log" in kept[-1].checkpoint["channel_values"]
        assert all("log" not in one.checkpoint["channel_values"] for one in kept[:-1])
        values = (await graph.aget_state(CONFIG)).values
        assert values["log"] == [str(one) for one in range(1, 19)]


async def test_without_a_delta_channel_pruning_keeps_one_checkpoint() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        saver = DurableSaver(store)
        graph = counting(State).compile(checkpointer=saver)
        await graph.ainvoke({"number": 0, "log": []}, CONFIG)
        await saver.aprune(["1"])
        assert len([one async for one in saver.alist(CONFIG)]) == 1
        assert (await graph.aget_state(CONFIG)).values["number"] == 10
        with pytest.raises(ValueError, match="strategy must be"):
            await saver.aprune(["1"], strategy="keep_some")


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_the_metadata_that_is_listed_is_as_wanted(kind: str, tmp_path: Path) -> None:
    async with Database(kind, tmp_path).store() as store:
        saver = DurableSaver(store)
        for value in (1, True, None, "1", {"a": [1]}, "nul\x00"):
            metadata: Any = {"tag": value}
            config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
            await saver.aput(config, empty_checkpoint(), metadata, {})

        async def found(wanted: Any) -> list[Any]:
            return [one.metadata["tag"] async for one in saver.alist(None, filter=wanted)]  # type: ignore[typeddict-item]

        assert await found({"tag": 1}) == [1]
        assert await found({"tag": True}) == [True]
        assert await found({"tag": "1"}) == ["1"]
        assert await found({"tag": {"a": [1]}}) == [{"a": [1]}]
        assert await found({"tag": None}) == [None]
        assert len(await found({"other": None})) == 6
        assert await found({"tag": 1, "other": 2}) == []


async def test_a_file_has_the_tables_only_after_the_first_write(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"

    def tables() -> set[str]:
        with closing(sqlite3.connect(file)) as connection:
            found = connection.execute("select name from sqlite_master where type = 'table'")
            return {name for (name,) in found if name.startswith("langgraph")}

    async with open_store(file) as store:
        saver = DurableSaver(store)
        assert await saver.aget_tuple(CONFIG) is None
        assert [one async for one in saver.alist(None)] == []
        history = await saver.aget_delta_channel_history(config=CONFIG, channels=["log"])
        assert history == {"log": {"writes": []}}
        assert tables() == set()
        await saver.adelete_thread("1")
        assert tables() == {"langgraph_checkpoints", "langgraph_writes"}


async def test_another_thread_uses_the_methods_without_await() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        saver = DurableSaver(store)
        graph = counting(DeltaState, 6).compile(checkpointer=saver)
        with pytest.raises(asyncio.InvalidStateError, match="would block the event loop"):
            saver.get_tuple(CONFIG)
        await graph.ainvoke({"number": 0, "log": [], "seldom": []}, CONFIG)
        state = await asyncio.to_thread(graph.get_state, CONFIG)
        assert state.values["log"] == ["1", "2", "3", "4", "5", "6"]
        await asyncio.to_thread(saver.copy_thread, "1", "2")
        await asyncio.to_thread(saver.prune, ["1"])
        listed = await asyncio.to_thread(lambda: list(saver.list(None)))
        assert {one.config["configurable"]["thread_id"] for one in listed} == {"1", "2"}
        await asyncio.to_thread(saver.delete_for_runs, ["x"])
        await asyncio.to_thread(saver.delete_thread, "1")
        assert await asyncio.to_thread(saver.get_tuple, CONFIG) is None


def test_a_program_without_await_uses_a_store_without_await(tmp_path: Path) -> None:
    def add(state: State) -> Any:
        return {"number": state["number"] + 1}

    graph: Any = StateGraph(State)
    graph.add_node("add", add)
    graph.add_edge(START, "add")
    with blocking.open_store(tmp_path / "workflows.db") as store:
        saver = DurableSaver(store)
        compiled = graph.compile(checkpointer=saver)
        assert compiled.invoke({"number": 1, "log": []}, CONFIG)["number"] == 2
        assert compiled.invoke({"log": ["a"]}, CONFIG) == {"number": 3, "log": ["a"]}
        assert [one.metadata["step"] for one in saver.list(CONFIG, limit=2)] == [4, 3]


def test_a_store_is_wanted() -> None:
    wrong: Any = "workflows.db"
    with pytest.raises(TypeError, match="store must be one that open_store gives"):
        DurableSaver(wrong)


def test_without_an_event_loop_the_error_says_what_to_do() -> None:
    store = SqliteCheckpointStore.in_memory()
    with pytest.raises(RuntimeError, match=r"store of `durable_workflow_sqlite\.blocking`"):
        DurableSaver(store).get_tuple(CONFIG)


async def test_a_config_without_a_thread_is_refused() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        with pytest.raises(ValueError, match="thread_id"):
            await DurableSaver(store).aget_tuple({"configurable": {}})


async def test_a_workflow_function_cannot_use_it() -> None:
    savers: list[DurableSaver] = []

    @workflow
    async def wrong(ctx: WorkflowContext) -> None:
        await savers[0].aget_tuple(CONFIG)

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        savers.append(DurableSaver(store))
        with pytest.raises(WorkflowCodeError, match="Run the graph with `run_graph`"):
            await engine.run(wrong)
