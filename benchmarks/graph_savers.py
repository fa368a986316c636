"""The checkpointer for LangGraph beside the official ones for SQLite; prints a table.

    python -m benchmarks.graph_savers [--rounds N] [--tiny]

Each round takes all savers in another order, each with a fresh file. "Pairs" calls `put` and
`put_writes` by turns and waits for each, as no graph does. "Graph" runs graphs of one node, which
calls itself, and counts its steps. The savers without `await` have a thread for each writer.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import random
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final, NamedTuple, TypedDict

from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.report import machine, number, table
from benchmarks.rounds import fresh_folder
from durable_workflow_sqlite import SqliteCheckpointStore, blocking
from durable_workflow_sqlite.integrations.langgraph import DurableSaver
from durable_workflow_sqlite.store.connection import Synchronous


class Sizes(NamedTuple):
    pairs: int = 300
    steps: int = 150
    writers: int = 50
    each: int = 10


WHOLE: Final = Sizes()
TINY: Final = Sizes(pairs=3, steps=3, writers=2, each=2)

OURS: Final = "DurableSaver"
OURS_WITHOUT_AWAIT: Final = "DurableSaver, without await"
THEIRS: Final = "AsyncSqliteSaver"
THEIRS_WITHOUT_AWAIT: Final = "SqliteSaver"
SAVERS: Final = (OURS, THEIRS, OURS_WITHOUT_AWAIT, THEIRS_WITHOUT_AWAIT)

MESSAGES: Final = [{"role": "user", "content": "x" * 100}] * 5


class State(TypedDict):
    number: int
    messages: Annotated[list[dict[str, str]], operator.add]


def graph_of(steps: int) -> Any:
    async def aturn(state: State) -> Any:
        return {"number": state["number"] + 1, "messages": MESSAGES[:1]}

    def turn(state: State) -> Any:
        return {"number": state["number"] + 1, "messages": MESSAGES[:1]}

    graph: Any = StateGraph(State)
    graph.add_node("turn", RunnableLambda(turn, afunc=aturn))
    graph.add_edge(START, "turn")

    def next_node(state: State) -> str:
        return END if state["number"] == steps else "turn"

    graph.add_conditional_edges("turn", next_node)
    return graph


@asynccontextmanager
async def opened(kind: str, file: Path, synchronous: Synchronous) -> AsyncGenerator[Any]:
    if kind == OURS:
        async with SqliteCheckpointStore.file(file, synchronous=synchronous) as store:
            yield DurableSaver(store)
    elif kind == OURS_WITHOUT_AWAIT:
        blocking_store = await asyncio.to_thread(
            blocking.SqliteCheckpointStore.file, file, synchronous=synchronous
        )
        yield DurableSaver(blocking_store)
        await asyncio.to_thread(blocking_store.close)
    elif kind == THEIRS:
        async with AsyncSqliteSaver.from_conn_string(str(file)) as saver:
            await saver.setup()
            await saver.conn.execute(f"pragma synchronous = {synchronous}")
            yield saver
    else:
        with SqliteSaver.from_conn_string(str(file)) as sync_saver:
            sync_saver.setup()
            sync_saver.conn.execute(f"pragma synchronous = {synchronous}")
            yield sync_saver


def _metadata(step: int) -> Any:
    return {"source": "loop", "step": step, "parents": {}}


def _config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


def _checkpoint() -> Any:
    return {**empty_checkpoint(), "channel_values": {"messages": MESSAGES}}


async def _pairs(saver: BaseCheckpointSaver[Any], thread: str, count: int) -> None:
    config = _config(thread)
    for step in range(count):
        config = await saver.aput(config, _checkpoint(), _metadata(step), {})
        writes = [("messages", MESSAGES[:1]), ("number", step)]
        await saver.aput_writes(config, writes, f"task {step}")


def _pairs_without_await(saver: BaseCheckpointSaver[Any], thread: str, count: int) -> None:
    config = _config(thread)
    for step in range(count):
        config = saver.put(config, _checkpoint(), _metadata(step), {})
        saver.put_writes(config, [("messages", MESSAGES[:1]), ("number", step)], f"task {step}")


async def _graph(saver: BaseCheckpointSaver[Any], thread: str, steps: int) -> None:
    given = {"number": 0, "messages": MESSAGES}
    config = {**_config(thread), "recursion_limit": steps + 2}
    await graph_of(steps).compile(checkpointer=saver).ainvoke(given, config, durability="sync")


def _graph_without_await(saver: BaseCheckpointSaver[Any], thread: str, steps: int) -> None:
    given = {"number": 0, "messages": MESSAGES}
    config = {**_config(thread), "recursion_limit": steps + 2}
    graph_of(steps).compile(checkpointer=saver).invoke(given, config, durability="sync")


async def _rate(saver: Any, kind: str, what: str, writers: int, each: int) -> float:
    """How many pairs, or steps of graphs, in a second."""
    threads = [f"{what} {one}" for one in range(writers)]
    if kind in (OURS, THEIRS):
        work = _pairs if what == "pairs" else _graph
        began = time.perf_counter()
        await asyncio.gather(*(work(saver, thread, each) for thread in threads))
    else:
        waits = _pairs_without_await if what == "pairs" else _graph_without_await
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(writers) as pool:
            began = time.perf_counter()
            await asyncio.gather(
                *(loop.run_in_executor(pool, waits, saver, thread, each) for thread in threads)
            )
    return writers * each / (time.perf_counter() - began)


async def _all(kind: str, folder: Path, synchronous: Synchronous, sizes: Sizes) -> dict[str, float]:
    found: dict[str, float] = {}
    for what, alone in (("pairs", sizes.pairs), ("graph", sizes.steps)):
        for writers, each in ((1, alone), (sizes.writers, sizes.each)):
            file = folder / f"{kind} {what} {writers} {synchronous}.db"
            async with opened(kind, file, synchronous) as saver:
                await _rate(saver, kind, what, 1, 2)  # it makes its tables
                name = f"{what}, {writers} writer{'s' if writers > 1 else ''}, {synchronous}"
                found[name] = await _rate(saver, kind, what, writers, each)
    return found


def measured(rounds: int, sizes: Sizes) -> str:
    """The table: the medians of each saver, and that of the ratios of ours to theirs."""
    rates: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for synchronous in ("normal", "full"):
            for kind in random.sample(SAVERS, len(SAVERS)):
                with fresh_folder() as folder:
                    found = asyncio.run(_all(kind, folder, synchronous, sizes))
                for name, rate in found.items():
                    rates.setdefault(name, {}).setdefault(kind, []).append(rate)
    rows: list[list[str]] = []
    for name, by_kind in rates.items():
        row = [name]
        for ours, theirs in ((OURS, THEIRS), (OURS_WITHOUT_AWAIT, THEIRS_WITHOUT_AWAIT)):
            pairs = zip(by_kind[ours], by_kind[theirs], strict=True)
            row += [number(round(median(by_kind[one]))) for one in (ours, theirs)]
            row.append(f"{median(one / other for one, other in pairs):.2f}")
        rows.append(row)
    head = ["a second", OURS, THEIRS, "ratio", OURS_WITHOUT_AWAIT, THEIRS_WITHOUT_AWAIT, "ratio"]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="little of it: does it run?")
    given = parser.parse_args()
    print(machine())
    print(measured(given.rounds, TINY if given.tiny else WHOLE))


if __name__ == "__main__":
    main()
