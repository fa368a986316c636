"""The network between workers and the server is slow, stalls, or is cut: nothing is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import pytest

from durable_workflow_sqlite import (
    ClaimLostError,
    DurableEngine,
    StepStatus,
    StoreError,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import (
    created,
    new_checkpoint,
    new_execution,
)
from tests.postgres.test_lost_sessions import sees, until

if TYPE_CHECKING:
    from durable_workflow_sqlite.postgres.store import PostgresStore
    from tests.postgres.proxy import Network

pytestmark = [pytest.mark.campaign, pytest.mark.faults]

SILENT_S = 1.0
EXECUTIONS = 10
STEPS = 6
CUTS = 12


@pytest.fixture
def network(url: str) -> Generator[tuple[Network, str]]:
    from tests.postgres.proxy import network_to

    with network_to(url) as found:
        yield found


@pytest.fixture
def open_over(network: tuple[Network, str], schema: str) -> Callable[[], PostgresStore]:
    """Opens a store over the network."""
    from durable_workflow_sqlite.postgres.store import PostgresStore

    return lambda: PostgresStore(network[1], schema=schema)


async def test_a_worker_that_the_server_cannot_hear_is_dead_until_it_can(
    network: tuple[Network, str],
    open_over: Callable[[], PostgresStore],
    open_store: Callable[[], PostgresStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing comes through, and nobody is told that: the ends find out by themselves."""
    from durable_workflow_sqlite.postgres import presence

    monkeypatch.setattr(presence, "SILENT_S", SILENT_S)
    monkeypatch.setattr(presence, "LOOK_EVERY_S", 0.1)
    async with open_over() as store, open_store() as other:
        claim = await created(store, new_execution("e"))
        await asyncio.sleep(2 * SILENT_S)
        assert await sees(other, store)
        network[0].is_stalled = True
        late = asyncio.ensure_future(
            store.begin_step(new_checkpoint("e", 0, status=StepStatus.INTENT), claim=claim)
        )

        async def is_taken_over() -> bool:
            return bool(await other.release_claims_of_the_dead(3))

        await until(is_taken_over)
        assert await other.claim_execution("e") is not None
        network[0].is_stalled = False
        with pytest.raises(ClaimLostError):
            await late
        await until(lambda: sees(other, store))


async def test_over_a_slow_network_all_works(
    network: tuple[Network, str], open_over: Callable[[], PostgresStore]
) -> None:
    network[0].delay_s = 0.01

    @workflow
    async def walk(ctx: WorkflowContext, number: int) -> int:
        return sum([await ctx.step(f"leg {one}", lambda: number) for one in range(3)])

    async with open_over() as store, DurableEngine(store, [walk]) as engine:
        handles = [await engine.start(walk, number) for number in range(5)]
        assert [await one.result() for one in handles] == [0, 3, 6, 9, 12]


async def test_a_network_that_is_cut_again_and_again_loses_nothing(
    network: tuple[Network, str],
    open_over: Callable[[], PostgresStore],
    open_store: Callable[[], PostgresStore],
) -> None:
    calls: Counter[tuple[str, int]] = Counter()
    made_up = random.Random(EXECUTIONS)

    @workflow
    async def walk(ctx: WorkflowContext) -> int:
        async def leg(number: int) -> int:
            calls[ctx.execution_id, number] += 1
            await asyncio.sleep(0.02)
            return number

        return sum([await ctx.step(f"leg {one}", leg, one) for one in range(STEPS)])

    async def cut() -> None:
        for _ in range(CUTS):
            await asyncio.sleep(made_up.uniform(0.02, 0.2))
            network[0].cut()

    async with (
        open_over() as store,
        open_store() as other,
        DurableEngine(store, [walk], max_recoveries=1000) as engine,
        DurableEngine(other, [walk], max_recoveries=1000) as second,
    ):
        ids = [f"walk {number}" for number in range(EXECUTIONS)]
        for one in ids:
            await second.enqueue(walk, execution_id=one)
        cutting = asyncio.ensure_future(cut())
        for one in ids:
            while True:
                try:
                    assert await engine.result_of(one) == sum(range(STEPS))
                    break
                except (StoreError, ClaimLostError):
                    await asyncio.sleep(0.05)  # its connection was lost
        await cutting
    assert set(calls) == {(one, number) for one in ids for number in range(STEPS)}
    # Of each cut, at most the step of each execution that ran there is in doubt.
    assert sum(calls.values()) <= EXECUTIONS * STEPS + CUTS * EXECUTIONS
