"""`open_store` with the URL of a database of PostgreSQL."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Generator

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    StoreError,
    WorkflowContext,
    blocking,
    open_reader,
    open_store,
    workflow,
)
from durable_workflow_sqlite.reading.reader import Reader
from postgres_server import new_database


@pytest.fixture
def own(url: str) -> Generator[str]:
    """A database of its own, with a schema that has the usual name."""
    with new_database(url.removesuffix("postgres"), f"own_{uuid.uuid4().hex}") as own:
        yield own


@workflow
async def shop(ctx: WorkflowContext, price: int) -> int:
    return await ctx.step("add", lambda: price + 1)


async def test_an_engine_runs_on_it_and_the_next_one_finds_the_result(own: str) -> None:
    async with open_store(own) as store, DurableEngine(store, [shop]) as engine:
        assert await engine.run(shop, 41, execution_id="one") == 42
    async with open_store(own.replace("postgresql", "postgres")) as store:
        (step,) = await store.load_checkpoints("one")
        assert step.output_data == "42"


async def test_a_server_that_is_not_there_is_named_without_the_password(url: str) -> None:
    with pytest.raises(StoreError, match=r"cannot use postgresql://127\.0\.0\.1:1/db") as refused:
        open_store("postgresql://kim:secret@127.0.0.1:1/db")
    assert "secret" not in str(refused.value)


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith("durable_workflow_sqlite.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"durable-workflow-sqlite\[postgres\]"):
        open_store("postgresql://kim@host/db")


def test_it_is_opened_without_await_too(own: str) -> None:
    with blocking.open_store(own) as store, blocking.DurableEngine(store, [shop]) as engine:
        assert engine.run(shop, 41, execution_id="one") == 42
        assert [one.status for one in store.load_checkpoints("one")] == ["COMPLETED"]


def test_another_schema_is_named_in_the_url(own: str) -> None:
    with open_reader_of(own, "shop_2") as reader:
        assert reader.counts() == []
    with pytest.raises(ValueError, match="lower-case letters"):
        open_store(f"{own}?schema=Shop-2")
    with pytest.raises(ValueError, match="`schema` twice"):
        open_store(f"{own}?schema=a&schema=b")


def open_reader_of(own: str, schema: str) -> Reader:
    url = f"{own}?schema={schema}"
    blocking.open_store(url).close()
    with pytest.raises(StoreError, match=r"there is no schema durable_workflow with the tables"):
        open_reader(own)
    return open_reader(url)
