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
    open_store,
    workflow,
)
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


def test_without_await_there_is_sqlite_alone() -> None:
    with pytest.raises(ValueError, match="postgresql is not known here"):
        blocking.open_store("postgresql://kim@host/db")
