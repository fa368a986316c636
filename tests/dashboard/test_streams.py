"""The streams of an execution on its page, and as events for a page that is open."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from durable_workflow_sqlite import (
    AesGcmCodec,
    DurableEngine,
    RetryPolicy,
    WorkflowContext,
    open_store,
    step_stream,
    workflow,
)
from tests.dashboard.conftest import Open
from tests.dashboard.test_pages import words
from tests.databases import new_database
from tests.processes import an_engine


@workflow
async def talk(ctx: WorkflowContext, items: int) -> None:
    tries: list[int] = []

    async def say() -> None:
        tries.append(1)
        stream = step_stream()
        stream.put(f"try {len(tries)}")
        for number in range(items):
            stream.put({"n": [number, "<b>\u202e"]})
        if len(tries) == 1:
            raise ConnectionError

    retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(0))
    await ctx.branch("left").step("say", say, retry=retry)


def told(file: Path, items: int) -> Path:
    async def main() -> None:
        async with an_engine(new_database(file)) as (_, engine):
            await engine.run(talk, items, execution_id="e")

    asyncio.run(main())
    return file


def events(visit: TestClient, execution_id: str) -> list[tuple[str, Any]]:
    answer = visit.get("/stream", params={"id": execution_id})
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n", 1) for block in answer.text.strip().split("\n\n")]
    return [
        (kind.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for kind, data in blocks
    ]


def test_the_page_shows_the_items_of_the_last_attempt(tmp_path: Path, visit: Open) -> None:
    page = visit(told(tmp_path / "told.db", 2)).get("/execution?id=e").text
    assert "left/say attempt 2 try 2" in words(page)
    assert "try 1" not in page
    assert r"&lt;b&gt;\u202e" in page
    assert 'data-over="COMPLETED"' in page
    assert 'id="streams"' not in visit().get("/execution?id=done").text


def test_the_events_are_the_newest_items_with_resets_and_the_end(
    tmp_path: Path, visit: Open
) -> None:
    found = events(visit(told(tmp_path / "told.db", 1), read_only=True), "e")
    assert [kind for kind, _ in found] == ["begin", "item", "item", "reset", "item", "item", "end"]
    assert found[1][1] == {"place": "left 0", "name": "left/say", "attempt": 1, "text": "try 1"}
    assert found[5][1]["text"] == r'{"n":[0,"<b>\u202e"]}'
    assert found[6][1] == {"status": "COMPLETED"}
    many = events(visit(told(tmp_path / "many.db", 500)), "e")
    assert [kind for kind, _ in many] == ["begin", *["item"] * 200, "end"]
    assert many[200][1]["text"].startswith('{"n":[499,')
    assert visit().get("/stream?id=unknown").status_code == 404
    assert visit().get("/stream").status_code == 404


def test_an_execution_without_items_only_ends(visit: Open) -> None:
    assert [kind for kind, _ in events(visit(), "done")] == ["begin", "end"]


def test_who_has_no_token_gets_no_stream(tmp_path: Path, visit: Open) -> None:
    page = visit(told(tmp_path / "told.db", 1), token="a token of 16 letters")
    answer = page.get("/stream?id=e")
    assert answer.status_code in (302, 303, 401)
    assert "try" not in answer.text


def test_encrypted_items_are_hidden_and_unreadable_ones_left_out(
    tmp_path: Path, visit: Open
) -> None:
    async def main(file: Path) -> None:
        codec = AesGcmCodec([("first", b"k" * 32)])
        async with open_store(file, codec=codec) as store, DurableEngine(store) as engine:
            await engine.run(talk, 0, execution_id="e")

    asyncio.run(main(tmp_path / "secret.db"))
    found = events(visit(tmp_path / "secret.db"), "e")
    hidden = ["encrypted"] * 3  # an item, the reset, an item
    assert [data.get("text") for _, data in found] == [None, *hidden, None]
    file = told(tmp_path / "told.db", 0)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute("update workflow_stream_items set created_at = 'x' where attempt = 1")
    assert [data.get("text") for _, data in events(visit(file), "e")] == [None, "try 2", None]
