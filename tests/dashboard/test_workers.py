"""The page of workers, and what every page says of them."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)
from tests.dashboard.conftest import Open, approval, dies
from tests.dashboard.test_overview import health_of
from tests.dashboard.test_pages import words
from tests.processes import an_engine


def test_who_lives_is_shown_with_what_it_does_and_what_waits(file: Path, visit: Open) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def main() -> str:
        async with an_engine(file, workflows=[approval], max_concurrent=7) as (_, engine):

            async def act() -> None:
                begun.set()
                await go_on.wait()

            @workflow
            async def busy(ctx: WorkflowContext) -> None:
                await ctx.step("act", act)

            handle = await engine.start(busy, execution_id="at-it")
            await begun.wait()
            page = await asyncio.to_thread(lambda: words(visit().get("/workers").text))
            attempts = await asyncio.to_thread(
                lambda: words(visit().get("/execution?id=at-it").text)
            )
            assert f"{socket.gethostname()}:{os.getpid()}" in attempts
            go_on.set()
            await handle.result()
            return page

    page = asyncio.run(main())
    assert f"{socket.gethostname()}:{os.getpid()}" in page
    assert "approval v1, busy v1" in page
    assert "1 of 7" in page
    assert "at-it in “ act ”" in page


def test_that_nobody_lives_is_said_on_every_page(file: Path, visit: Open) -> None:
    assert "no worker lives" not in health_of(visit().get("/").text)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set available_at = '2026-01-01T00:00:00.000000Z',"
            " status = 'PENDING' where workflow_execution_id = 'waiting'"
        )
    for page in ("/", "/executions", "/workers", "/execution?id=waiting"):
        assert "1 waiting, and no worker lives" in health_of(visit().get(page).text)
    said = words(visit().get("/workers").text)
    assert "no worker lives: 1 execution due" in said
    assert f"durable-workflow worker {file}" in said


def test_that_nobody_knows_a_workflow_is_said(file: Path, visit: Open) -> None:
    async def main() -> str:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, [dies]),
            asyncio.timeout(30),
        ):
            while True:
                page = await asyncio.to_thread(lambda: visit().get("/workers").text)
                if "1 of a version that no worker runs" in health_of(page):
                    return words(page)

    said = asyncio.run(main())
    assert "no living worker knows approval v1: 1 execution" in said
    assert "approval v1 0 0 1 0 pause workflow approval … 0 0 none" in said
