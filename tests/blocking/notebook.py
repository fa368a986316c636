"""Cells, run as the kernel of a notebook runs them: in an event loop in the main thread."""

from __future__ import annotations

import asyncio

from IPython.core.interactiveshell import InteractiveShell

CELLS = [
    "from durable_workflow_sqlite import workflow",
    "from durable_workflow_sqlite.blocking import DurableEngine, SqliteCheckpointStore",
    """
@workflow
async def double(ctx, number):
    return await ctx.step("double", lambda: 2 * number)
""",
    "engine = DurableEngine(SqliteCheckpointStore.in_memory())",
    "result = engine.open()",
    "import asyncio; loop = asyncio.get_running_loop()",
    "print(engine.run(double, 21))",
]


async def kernel() -> None:
    shell = InteractiveShell.instance()
    for cell in CELLS:
        transformed = shell.transform_cell(cell)
        (await shell.run_cell_async(cell, transformed_cell=transformed)).raise_error()


if __name__ == "__main__":
    asyncio.run(kernel())
