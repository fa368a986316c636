"""Transactions in the sandbox: the rows of a test's own tables outlive the crashes, too."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durable_workflow_sqlite import TransactionClient, WorkflowContext, workflow
from durable_workflow_sqlite.testing import AsyncSandbox, Sandbox
from durable_workflow_sqlite.testing.simulated_process import Moment
from tests.testing.notes import DAY, noted, undo


def make(connection: Any) -> None:
    connection.execute("create table rows (name text)")


def put(connection: Any, name: str) -> str:
    noted.append(name)
    connection.execute("insert into rows values (?)", (name,))
    if name == "second":
        TransactionClient(connection).enqueue(other, execution_id="other")
    return name


def rows(connection: Any) -> list[str]:
    return [name for (name,) in connection.execute("select name from rows").fetchall()]


@workflow
async def other(ctx: WorkflowContext) -> str:
    return "enqueued"


@workflow
async def own(ctx: WorkflowContext) -> str:
    first = await ctx.transaction("first", put, "first")
    await ctx.sleep("night", DAY)
    return first + await ctx.transaction("second", put, "second", compensate=undo)


@pytest.mark.parametrize("step", ["first", "second"])
@pytest.mark.parametrize(("moment", "times"), [("after", 2), ("recorded", 1)])
def test_a_transaction_writes_once_wherever_its_process_crashes(
    durable: Sandbox, step: str, moment: Moment, times: int
) -> None:
    durable.write(make)
    durable.crash_at(step, moment)
    durable.start(own, execution_id="one")
    durable.start(other, execution_id="known")
    assert durable.result_of("one") == "firstsecond"
    assert durable.result_of("other") == "enqueued"
    assert durable.crashes == [f"{moment} {step}"]
    assert noted.count(step) == times
    assert durable.read(rows) == ["first", "second"]
    assert f"{step} (in doubt)" not in durable.history("one")
    durable.history("one").assert_ran(step, times=1)


async def test_in_the_async_sandbox(async_durable: AsyncSandbox) -> None:
    await async_durable.write(make)
    await async_durable.start(other, execution_id="known")
    assert await async_durable.run(own) == "firstsecond"
    await async_durable.advance(timedelta(days=1))
    assert await async_durable.read(rows) == ["first", "second"]
