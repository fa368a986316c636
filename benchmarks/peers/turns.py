"""The agent of pydantic-ai that is measured, and how: the same for each side.

A turn is a request of the model, which answers with 0.5 kB and the call of a tool, and this call,
which returns 1 kB. The model is a function, which answers at once. A last request ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

TURNS = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", help="KIND_SYNCHRONOUS, as in one_full or at_once_normal")
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    return parser.parse_args()


async def respond(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    returned = sum(
        isinstance(part, ToolReturnPart)
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
    )
    if returned == TURNS:
        return ModelResponse(parts=[TextPart(f"{returned} turns")])
    return ModelResponse(parts=[TextPart("x" * 500), ToolCallPart("look_up", {"number": returned})])


MODEL = FunctionModel(respond)


def found(number: int) -> str:
    return f"{number}: " + "y" * 1000


async def measure(
    run: Callable[[str], Awaitable[str]], options: argparse.Namespace, table: str | None
) -> dict[str, float]:
    """Time, bytes and rows of a turn; the first run, which makes the tables, is not in them.

    table: where an outcome of a step is a row; None: nothing is recorded.
    """
    kind, _, _ = options.work.rpartition("_")
    await run("Where?")
    bytes_before, rows_before = _written(options.file, table)
    began = time.perf_counter()
    if kind == "one":
        answers = [await run(f"Where is {number}?") for number in range(options.runs)]
    else:
        runs = (run(f"Where is {number}?") for number in range(options.runs))
        answers = await asyncio.gather(*runs)
    seconds = time.perf_counter() - began
    if set(answers) != {f"{TURNS} turns"}:
        raise RuntimeError(f"the agents have not done their work: {answers}")
    turns = options.runs * TURNS
    bytes_after, rows_after = _written(options.file, table)
    return {
        "ms/turn": seconds * 1000 / turns,
        "bytes/turn": (bytes_after - bytes_before) / turns,
        "rows/turn": (rows_after - rows_before) / turns,
    }


def _written(file: Path, table: str | None) -> tuple[int, int]:
    """The bytes of the database, also those that are still in its log, and the rows of a table."""
    if table is None:
        return 0, 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
        pages, page_size, rows = (
            connection.execute(query).fetchone()[0]
            for query in ("pragma page_count", "pragma page_size", f"select count(*) from {table}")
        )
        return pages * page_size, rows
