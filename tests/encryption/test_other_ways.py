"""Other ways into a database and out of it: transactions of the user, forks, edits, moves."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    PayloadTooLargeError,
    TransactionClient,
    WorkflowContext,
    open_store,
    workflow,
)
from durable_workflow_sqlite.moving import move as moving
from durable_workflow_sqlite.stores import open_movable
from tests import postgres_server
from tests.databases import new_database
from tests.encryption.stories import CODEC, SECRET, go_on, live
from tests.encryption.test_secrets import forms_of, texts_of


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "workflows.db"
    if request.param == "sqlite":
        yield str(new_database(file))
        return
    yield f"{postgres_server.url()}?schema={postgres_server.schema_of(file)}"


def assert_hidden(url: str) -> None:
    texts = texts_of(url)
    assert [form for form in forms_of(SECRET) if form in texts] == []


def no_progress(*_: object) -> None:
    pass


@workflow
async def waits(ctx: WorkflowContext, text: str) -> str:
    async def answer() -> str:
        return f"answer {text}"

    said: str = await ctx.step("answer", answer)
    told: str = await ctx.wait_signal("go", type=str)
    return f"{said}, {told}"


def own_connection(url: str) -> Any:
    if not url.startswith("postgres"):
        return closing(sqlite3.connect(url))
    import psycopg

    return closing(psycopg.connect(url.partition("?")[0]))


def test_what_is_enqueued_in_a_transaction_of_the_user_is_encrypted(url: str) -> None:
    async def main() -> None:
        async with (
            open_store(url, codec=CODEC) as store,
            DurableEngine(store, workflows=[waits]) as engine,
        ):
            with own_connection(url) as connection:
                handle = await engine.enqueue(
                    waits, f"a {SECRET}", execution_id="e", connection=connection
                )
                await engine.send_signal("e", "go", f"b {SECRET}", connection=connection)
                connection.commit()
            assert await handle.result() == f"answer a {SECRET}, b {SECRET}"
        assert_hidden(url)

    asyncio.run(main())


def test_a_client_of_a_connection_encrypts_and_knows_the_limit(url: str) -> None:
    schema = url.rpartition("=")[2] if url.startswith("postgres") else None

    async def main() -> None:
        async with open_store(url, codec=CODEC) as store:
            with own_connection(url) as connection:
                client = TransactionClient(
                    connection, schema=schema, codec=CODEC, max_payload_bytes=100
                )
                client.enqueue(waits, f"a {SECRET}", execution_id="e")
                with pytest.raises(PayloadTooLargeError):
                    client.enqueue(waits, "x" * 100)
                client.send_signal("e", "go", f"b {SECRET}")
                connection.commit()
            assert_hidden(url)
            async with DurableEngine(store, workflows=[waits]) as engine:
                assert await engine.handle("e").result() == f"answer a {SECRET}, b {SECRET}"

    asyncio.run(main())


def test_a_fork_has_values_of_its_own_places(url: str) -> None:
    async def main() -> None:
        async with (
            open_store(url, codec=CODEC) as store,
            DurableEngine(store, workflows=[waits]) as engine,
        ):
            first = await engine.start(waits, SECRET, execution_id="first")
            await first.signal("go", "now")
            assert await first.result() == f"answer {SECRET}, now"
            second = await engine.fork(
                "first", before="go", edit={"answer": f"edited {SECRET}"}, new_id="second"
            )
            assert await second.result() == f"edited {SECRET}, now"
        async with open_store(url, codec=CODEC) as store:
            for one in ("first", "second"):
                assert await store.load_checkpoints(one)
        assert_hidden(url)

    asyncio.run(main())


def test_a_move_takes_encrypted_values_along(url: str, tmp_path: Path) -> None:
    target = tmp_path / "target.db"

    async def begin() -> None:
        async with open_store(url, codec=CODEC) as store:
            await live(store)

    async def end() -> None:
        async with open_store(target, codec=CODEC) as store:
            await go_on(store)

    asyncio.run(begin())
    with (
        closing(open_movable(url, create=False)) as theirs,
        closing(open_movable(str(target), create=True)) as ours,
    ):
        moving.move(
            theirs,
            ours,
            moved_by="somebody@here",
            now=lambda: datetime.now(UTC),
            on_progress=no_progress,
        )
    asyncio.run(end())
    assert_hidden(str(target))
