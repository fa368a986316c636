"""What an item of a stream costs, and a report of progress; prints a table.

    python -m benchmarks.streams [--rounds N] [--tiny]

Each round takes all works in another order, each with a fresh file. The raw floor inserts the same
rows with plain sqlite3, 500 in a transaction: by the statement of the library, which takes many
items, or by one insert for each item. Both write the JSON of the items, as the library does.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.report import machine, number, table
from benchmarks.rounds import fresh_folder
from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    migrate,
    report_progress,
    step_stream,
    workflow,
)
from durable_workflow_sqlite.store.adapter import number_parameters
from durable_workflow_sqlite.store.connection import configure, open_connection
from durable_workflow_sqlite.store.sql import load_queries


class Sizes(NamedTuple):
    items: int = 50_000
    streams: int = 10


WHOLE: Final = Sizes()
TINY: Final = Sizes(items=40, streams=2)

_QUERIES: Final[Any] = load_queries()

AT_ONCE: Final = 500
FLOOR: Final = "raw: one statement for 500 items"


async def put(items: int) -> None:
    stream = step_stream()
    for index in range(items):
        stream.put(f"word {index}")
        if index % AT_ONCE == 0:
            await asyncio.sleep(0)


async def report(items: int) -> None:
    for index in range(items):
        report_progress(index, items)
        if index % AT_ONCE == 0:
            await asyncio.sleep(0)


@workflow
async def one_stream(ctx: WorkflowContext, action: str, items: int) -> None:
    await ctx.step("tell", put if action == "put" else report, items)


@workflow
async def many_streams(ctx: WorkflowContext, items: int, streams: int) -> None:
    each = items // streams
    await asyncio.gather(*(ctx.step(f"tell {n}", put, each) for n in range(streams)))


def _engine(work: Any, *args: Any) -> Callable[[Path], float]:
    async def main(file: Path) -> float:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            began = time.perf_counter()
            await engine.run(work, *args)
            return time.perf_counter() - began

    return lambda file: asyncio.run(main(file))


def _raw(file: Path, items: int, at_once: int) -> float:
    """One execution with as many items, `at_once` of them with one statement."""
    with closing(open_connection(file)) as connection:
        configure(connection, "normal")
        migrate(connection)
        connection.execute("pragma foreign_keys = off")  # there is no execution
        statement, names = number_parameters(_QUERIES.insert_stream_items.sql)
        row: dict[str, Any] = {
            "workflow_execution_id": "e",
            "branch": "",
            "step_index": 0,
            "step_name": "tell",
            "attempt": 1,
            "run_number": 1,
            "written_under": 1,
            "created_at": "2030-01-01T00:00:00.000000Z",
            "fencing_token": None,
        }
        began = time.perf_counter()
        for first in range(0, items, AT_ONCE):
            texts = [_json(f"word {n}") for n in range(first, min(items, first + AT_ONCE))]
            connection.execute("begin immediate")
            for start in range(0, len(texts), at_once):
                row["items"] = _json(texts[start : start + at_once])
                connection.execute(statement, [row[name] for name in names])
            connection.execute("commit")
        return time.perf_counter() - began


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def works(sizes: Sizes) -> dict[str, Callable[[Path], float]]:
    items, streams = sizes
    return {
        FLOOR: lambda file: _raw(file, items, AT_ONCE),
        "raw: a statement for each item": lambda file: _raw(file, items, 1),
        "put, one stream": _engine(one_stream, "put", items),
        f"put, {streams} streams of one execution": _engine(many_streams, items, streams),
        "report_progress": _engine(one_stream, "report", items),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    sizes = TINY if options.tiny else WHOLE
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        order = list(works(sizes).items())
        random.shuffle(order)
        for name, work in order:
            with fresh_folder() as folder:
                found.setdefault(name, []).append(work(folder / "one.db") / sizes.items * 1e6)
    rows: list[list[str]] = []
    for name in works(sizes):
        ratios = [one / raw for one, raw in zip(found[name], found[FLOOR], strict=True)]
        rows.append([name, f"{median(found[name]):.1f}", number(median(ratios))])
    print(machine())
    print(table(["work", "µs an item", "times the raw floor"], rows))


if __name__ == "__main__":
    main()
