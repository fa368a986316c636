"""Many who answer at once: from processes of their own, and as the deadline comes."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionFinishedError,
    QuestionAnsweredError,
    QuestionNotFoundError,
    SqliteCheckpointStore,
    WorkflowContext,
    open_store,
    workflow,
)
from tests.processes import Child, an_engine, until


@workflow
async def asks_once(ctx: WorkflowContext) -> int:
    return await ctx.ask("number", "Which number?", type=int)


@pytest.mark.campaign
async def test_of_sixteen_processes_one_answers_and_the_others_are_told_which(
    tmp_path: Path,
) -> None:
    file = tmp_path / "workflows.db"
    async with an_engine(file) as (_, engine):
        await engine.start(asks_once, execution_id="one")
        await until(lambda: engine.questions())
    begins_at = datetime.now(UTC) + timedelta(seconds=1.5)

    def answering(number: int) -> Child:
        async def answer() -> str:
            async with open_store(file) as store:
                await asyncio.sleep((begins_at - datetime.now(UTC)).total_seconds())
                try:
                    await Client(store).answer("one", "number", number, by=f"person {number}")
                except QuestionAnsweredError as error:
                    return str(error.answered_by)
                return "counts"

        return Child(lambda say: say(asyncio.run(answer())))

    children = [answering(number) for number in range(16)]
    said = [child.hear() for child in children]
    for child in children:
        assert not child.is_killed_in_the_end()
    assert said.count("counts") == 1
    first = said.index("counts")
    assert set(said) == {"counts", f"person {first}"}
    async with an_engine(file) as (store, engine):
        assert await engine.run(asks_once, execution_id="one") == first
        assert len(await store.load_signals("one")) == 1
        assert [one.actor for one in await store.load_audit_log("one")] == [f"person {first}"]


@workflow
async def asks_shortly(ctx: WorkflowContext, deadline: timedelta) -> int:
    return await ctx.ask("number", "Which number?", type=int, deadline=deadline, overdue=-1)


async def test_an_answer_at_the_deadline_either_counts_or_is_refused() -> None:
    """Nobody is told that the answer is stored where the workflow goes on without it."""
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(50),
    ):
        chance = random.Random(19)

        async def one_race(number: int) -> bool:
            handle = await engine.start(
                asks_shortly, timedelta(milliseconds=40), execution_id=f"race {number}"
            )
            await asyncio.sleep(chance.uniform(0.02, 0.06))
            try:
                await Client(store).answer(handle.execution_id, "number", number)
            except (QuestionNotFoundError, ExecutionFinishedError):
                assert await handle.result() == -1
                return False
            assert await handle.result() == number
            return True

        counted = [await asyncio.gather(*map(one_race, range(n, n + 8))) for n in range(0, 96, 8)]
        assert {one for some in counted for one in some} == {True, False}
