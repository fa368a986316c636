"""A worker on PostgreSQL that a test kills: python -m tests.postgres.worker URL SCHEMA JOURNAL."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any, Final

from durable_workflow_sqlite import DurableEngine, WorkflowContext, workflow
from durable_workflow_sqlite.postgres import presence
from durable_workflow_sqlite.postgres.store import PostgresStore

STEPS: Final = 5


@workflow
async def journey(ctx: WorkflowContext) -> int:
    for number in range(STEPS):
        await ctx.step(f"leg {number}", note, ctx.execution_id, number)
        await ctx.transaction(f"row {number}", put, ctx.execution_id, number)
    return STEPS


async def note(execution_id: str, number: int) -> int:
    """One line in one write: so a kill leaves it whole, or leaves none."""
    os.write(_journal, f"{execution_id} {number}\n".encode())
    await asyncio.sleep(0.01)
    return number


def put(connection: Any, execution_id: str, number: int) -> int:
    """A row in a table of the user, slowly, so that many kills are in the middle of it."""
    table = f"{connection.store_schema}.own_rows"
    connection.execute(f"insert into {table} values (%s, %s)", (execution_id, number))
    time.sleep(0.005)
    return number


async def main(url: str, schema: str) -> None:
    if "pooled" in url:
        presence.SILENT_S = 1  # type: ignore[misc]
    async with PostgresStore(url, schema=schema) as store:
        async with DurableEngine(store, [journey], max_concurrent=4, max_recoveries=100):
            await asyncio.Event().wait()


if __name__ == "__main__":
    _url, _schema, _path = sys.argv[1:]
    _journal = os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    asyncio.run(main(_url, _schema))
