"""Questions and errors that hold a NUL, which PostgreSQL takes in no text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    RetryPolicy,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)

if TYPE_CHECKING:
    import psycopg

    from durable_workflow_sqlite.postgres.store import PostgresStore


@workflow
async def asks_oddly(ctx: WorkflowContext, question: str, details: str) -> Any:
    return await ctx.ask("odd", question, to="finance", details=details)


@pytest.mark.parametrize(
    ("question", "details"), [("is it a\x00b?", "b"), ("is it b?", "a\x00b"), ("a\\u0000", "b")]
)
async def test_a_question_may_hold_a_nul(
    open_store: Callable[[], PostgresStore],
    by_hand: psycopg.Connection[tuple[Any, ...]],
    schema: str,
    question: str,
    details: str,
) -> None:
    async with open_store() as store, DurableEngine(store) as engine, asyncio.timeout(30):
        client = Client(store)
        handle = await engine.start(asks_oddly, question, details)
        while not (found := await client.questions(to="finance")):
            await asyncio.sleep(0.01)
        assert [(one.question, one.details) for one in found] == [(question, details)]
        shown = by_hand.execute(
            f"select question, details from {schema}.workflow_questions".encode()
        ).fetchall()
        assert len(shown) == 1
        waiting = by_hand.execute(
            f"select waiting_for from {schema}.workflow_open_steps".encode()
        ).fetchall()
        assert waiting == [("answer of finance to odd",)]
        await client.answer(handle.execution_id, "odd", "a\x00b")
        assert await handle.result() == "a\x00b"


async def test_an_error_may_hold_a_nul(open_store: Callable[[], PostgresStore]) -> None:
    def fails(_: Any = None) -> None:
        raise ValueError("a\x00b")

    @workflow
    async def fails_oddly(ctx: WorkflowContext) -> None:
        once = RetryPolicy(max_attempts=1)
        with suppress(ValueError):
            await ctx.transaction("put", fails, retry=once)
        await ctx.step("fail", fails, retry=once)

    async with open_store() as store, DurableEngine(store) as engine, asyncio.timeout(30):
        with pytest.raises(WorkflowFailedError):
            await engine.run(fails_oddly, execution_id="e")
        found = await store.load_checkpoints("e")
        assert [one.error_message for one in found] == ["a\\x00b"] * 2
