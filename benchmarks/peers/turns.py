"""The agent of pydantic-ai that is measured, and how: the same for each side.

A turn is a request of the model, which answers with 0.5 kB and the call of a tool, and this call,
which returns 1 kB. The model is a function, which answers at once. A last request ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
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
    parser.add_argument("work", help="KIND_SYNCHRONOUS, as in one_full or recovery_normal")
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


_missing = 0
"""Of a process that is to be killed: how many agents have yet to come to their middle."""


async def found(number: int) -> str:
    """What the tool returns; in a process that is to be killed, it never does so in the middle."""
    global _missing
    if _missing and number == TURNS // 2:
        _missing -= 1
        if not _missing:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.Event().wait()
    return f"{number}: " + "y" * 1000


def questions(options: argparse.Namespace) -> list[str]:
    """What the agents are asked that are cut off in their middle, and recovered."""
    return [f"Where is {number}?" for number in range(5 * options.runs)]


async def interrupt(run: Callable[[str], Awaitable[str]], options: argparse.Namespace) -> None:
    """Run agents until all are in their middle: there this process kills itself."""
    global _missing
    asked = questions(options)
    _missing = len(asked)
    await asyncio.gather(*map(run, asked))
    raise RuntimeError("the agents were not interrupted")


def leave_interrupted(options: argparse.Namespace) -> None:
    """Run this program with its work `interrupt_...`, which is to kill itself."""
    work = options.work.replace("recovery", "interrupt")
    words = [work if part == options.work else part for part in sys.orig_argv[1:]]
    died = subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=False)
    if died.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the process to be killed ended by itself: {died.returncode}")


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
