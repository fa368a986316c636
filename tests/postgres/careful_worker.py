"""A worker on PostgreSQL that a test kills, whose steps must not simply run again.

python -m tests.postgres.careful_worker URL SCHEMA JOURNAL
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import Final

from durable_workflow_sqlite import (
    Done,
    DurableEngine,
    NotDone,
    StepAmbiguousError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.postgres.store import PostgresStore

STEPS: Final = 5


@workflow
async def careful(ctx: WorkflowContext) -> list[str]:
    """What each step returned: probed ones in turn with those that fail when they are in doubt."""
    results: list[str] = []
    for number in range(STEPS):
        line = f"{ctx.execution_id} {number}"
        policy = partial(was_noted, line) if number % 2 else "fail"
        try:
            results.append(await ctx.step(f"leg {number}", note, line, in_doubt=policy))
        except StepAmbiguousError:
            results.append("?")
    return results


async def note(line: str) -> str:
    """One line in one write: so a kill leaves it whole, or leaves none."""
    os.write(_journal, f"{line}\n".encode())
    await asyncio.sleep(0.01)
    return line


async def was_noted(line: str, key: str) -> Done[str] | NotDone:
    assert key
    return Done(line) if line in Path(_path).read_text().splitlines() else NotDone()


async def main(url: str, schema: str) -> None:
    async with PostgresStore(url, schema=schema) as store:
        async with DurableEngine(store, [careful], max_concurrent=4, max_recoveries=100):
            await asyncio.Event().wait()


if __name__ == "__main__":
    _url, _schema, _path = sys.argv[1:]
    _journal = os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    asyncio.run(main(_url, _schema))
