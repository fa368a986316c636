"""Texts that were made to do harm where they are shown, and a file that is full of them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    report_progress,
    step_stream,
    workflow,
)

HOSTILE = (
    "<script>window.ran = 1</script>",
    "</script><script>window.ran = 2</script>",
    "</code></pre></details><img src=x onerror='window.ran = 3'>",
    '"><svg onload="window.ran = 4">',
    "'><iframe srcdoc='<script>parent.ran = 5</script>'>",
    "</title><script>window.ran = 6</script>",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "javascript:window.ran=7",
    "<style>* { display: none }</style>",
    "<base href='http://evil.example/'>",
    "<meta http-equiv='refresh' content='0;url=http://evil.example/'>",
    "<form action='http://evil.example/'><input name=id>",
    "abc\u202egnp.exe \u2066x\u2069 \u200b\ufeff",
    "&lt;script&gt;window.ran = 8&lt;/script&gt; &#0; &amp;",
    "]]><!-- --!> <![CDATA[ <plaintext>",
    "'; drop table workflow_executions; --",
    "../..",
    "a/b?c#d&e=f%00%2e",
)


def tell(text: str) -> None:
    report_progress(2, 3, text)
    step_stream().put(text)
    step_stream().put({text: "\x1b[31m"})


@workflow
async def hostile(ctx: WorkflowContext, payload: list[str]) -> list[str]:
    for text in HOSTILE:
        ctx.progress(1, 3, text)
        await ctx.step(text, lambda text=text: {text: [text, "nul \x00 byte", "\x1b[31m"]})
        await ctx.step(f"tells {text}", tell, text)
        await ctx.branch(text).step(text, lambda text=text: text)
    await ctx.wait_signal(HOSTILE[0])
    raise RuntimeError(HOSTILE[1] + HOSTILE[12])


@workflow
async def long_one(ctx: WorkflowContext, steps: int) -> None:
    for number in range(steps):
        await ctx.step(f"step {number}", lambda: HOSTILE[0])


@workflow
async def heavy(ctx: WorkflowContext) -> str:
    return await ctx.step("heavy", lambda: HOSTILE[0] * (5_000_000 // len(HOSTILE[0])))


def fill(path: Path, steps: int) -> None:
    """One execution for each text; one with a large result, and one of so many steps."""

    async def run() -> None:
        async with SqliteCheckpointStore.file(path) as store, DurableEngine(store) as engine:
            for text in HOSTILE:
                handle = await engine.start(hostile, [text], execution_id=text)
                await engine.send_signal(text, HOSTILE[2], {text: text}, key=text)
                if text == HOSTILE[0]:
                    await handle.signal(HOSTILE[0], text)
                    with pytest.raises(Exception, match="script"):
                        await handle.result()
            await engine.run(heavy, execution_id="heavy")
            await engine.run(long_one, steps, execution_id="long")
            for text in HOSTILE:
                while (await engine.load(text)).status == "RUNNING":
                    await asyncio.sleep(0.01)

    asyncio.run(run())
    with closing(sqlite3.connect(path)) as connection, connection:
        # What the library would not write, and a hand can.
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute(
            "update workflow_executions set blocked_reason = ?, status = 'RUNNING'"
            " where workflow_execution_id = ?",
            (HOSTILE[3], HOSTILE[3]),
        )
        connection.execute(
            "update step_checkpoints set output_data = cast(x'7b00003c7363726970743e' as text),"
            " kind = 'SLEEP' where workflow_execution_id = ? and step_index = 1",
            (HOSTILE[4],),
        )
