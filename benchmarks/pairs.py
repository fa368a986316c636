"""Works that differ in one thing, in turn in one process; prints how many times the other costs.

    python -m benchmarks.pairs WORK FILE [--tiny]

What is compared is the processor time of this process: it does not depend on what else runs, as a
time by the clock does. Each pair gives one ratio, and the first of the two is another each time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec

from benchmarks.ours import by_hand, child, mapped, no_steps, nothing
from durable_workflow_sqlite import (
    AesGcmCodec,
    Client,
    DurableEngine,
    ExecutionStatus,
    Limit,
    Queue,
    SqliteCheckpointStore,
    WorkflowClaim,
    WorkflowContext,
    WorkflowExecution,
    WorkflowGuarantee,
    workflow,
)

Figures = dict[str, float]
Work = Callable[[], Awaitable[object]]

AT_ONCE: Final = 10
"""How many executions a claim takes, and how many may run at once under the limits here."""


class Sizes(NamedTuple):
    pairs: int = 40
    each: int = 100
    """How many enqueues, or steps, one half of a pair is."""

    long_pairs: int = 7
    mapped: int = 10_000
    few: int = 1_000
    many: int = 100_000
    """How many executions are queued that claims are compared with."""


WHOLE: Final = Sizes()
TINY: Final = Sizes(pairs=2, each=3, long_pairs=1, mapped=5, few=30, many=60)


@workflow
async def steps(ctx: WorkflowContext, count: int, limit: str | None) -> None:
    for number in range(count):
        await ctx.step("step", nothing, number, limit=limit)


async def in_pairs(
    pairs: int, count: int, one: Work, other: Work, *, after: Work | None = None
) -> Figures:
    """How many times one half costs what the other does.

    count: of what there is in a half. after: what follows each half, and is not measured.
    """
    for work in (one, other):
        await work()
        if after is not None:
            await after()
    ratios: list[float] = []
    took: dict[Work, list[float]] = {one: [], other: []}
    for number in range(pairs):
        for work in (one, other) if number % 2 else (other, one):
            began = time.process_time()
            await work()
            took[work].append((time.process_time() - began) / count * 1e6)
            if after is not None:
                await after()
        ratios.append(took[one][-1] / took[other][-1])
    return {
        "times": median(ratios),
        "us": median(took[one]),
        "us without": median(took[other]),
    }


async def enqueue(file: Path, sizes: Sizes) -> Figures:
    """Enqueues into a queue with a limit, against enqueues into none."""
    async with SqliteCheckpointStore.file(file) as store:
        client = Client(store)
        await client.declare(Queue("mail", concurrency=AT_ONCE))

        async def into(queue: str | None) -> None:
            for _ in range(sizes.each):
                await client.enqueue(no_steps, queue=queue)

        return await in_pairs(sizes.pairs, sizes.each, lambda: into("mail"), lambda: into(None))


async def limited(file: Path, sizes: Sizes) -> Figures:
    """Steps under a limit, against free ones, in executions that have nothing else."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.declare(Limit("api", concurrency=AT_ONCE))

        async def under(limit: str | None) -> None:
            await engine.run(steps, sizes.each, limit)

        return await in_pairs(sizes.pairs, sizes.each, lambda: under("api"), lambda: under(None))


async def claims(file: Path, sizes: Sizes) -> Figures:
    """Claims of ten, where a hundred thousand wait in the queue, against a thousand."""
    async with AsyncExitStack() as opened:
        stores: list[SqliteCheckpointStore] = []
        for number in (sizes.many, sizes.few):
            store = SqliteCheckpointStore.file(file.with_name(f"{number}.db"))
            stores.append(await opened.enter_async_context(store))
            await Client(store).declare(Queue("mail", concurrency=AT_ONCE))
            for first in range(0, number, 1_000):
                some = range(first, min(first + 1_000, number))
                await asyncio.gather(*(_queued(store, one) for one in some))
        many, few = stores
        claimed: list[tuple[SqliteCheckpointStore, WorkflowClaim]] = []

        async def claim(store: SqliteCheckpointStore) -> None:
            found = await store.claim_available([(child.name, child.version)], AT_ONCE)
            claimed.extend((store, one) for one in found)

        async def end_them() -> None:
            """So that their slots are free again."""
            if len(claimed) != AT_ONCE:
                raise RuntimeError(f"{len(claimed)} were claimed")
            for store, one in claimed:
                execution = await store.load_execution(one.workflow_execution_id)
                assert execution is not None
                ended = msgspec.structs.replace(execution, status=ExecutionStatus.COMPLETED)
                await store.save(ended, claim=one)
            claimed.clear()

        pairs = min(sizes.pairs, sizes.few // AT_ONCE - 1)
        return await in_pairs(
            pairs, AT_ONCE, lambda: claim(many), lambda: claim(few), after=end_them
        )


async def _queued(store: SqliteCheckpointStore, number: int) -> None:
    execution = WorkflowExecution(
        workflow_execution_id=f"e{number}",
        workflow_id=child.record.workflow_id,
        guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        queue="mail",
        available_at=child.record.created_at,
    )
    await store.enqueue_execution(child.record, execution)


async def map_steps(file: Path, sizes: Sizes) -> Figures:
    """`ctx.map` over an action, against the same by hand."""
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        return await in_pairs(
            sizes.long_pairs,
            sizes.mapped,
            lambda: engine.run(mapped, sizes.mapped),
            lambda: engine.run(by_hand, sizes.mapped),
        )


async def encrypted(file: Path, sizes: Sizes) -> Figures:
    """Steps whose results are encrypted, against plain ones, in executions of nothing else."""
    codec = AesGcmCodec([("key", os.urandom(32))])
    async with (
        SqliteCheckpointStore.file(file) as plain,
        DurableEngine(plain) as engine,
        SqliteCheckpointStore.file(file.with_name("encrypted.db"), codec=codec) as store,
        DurableEngine(store) as other,
    ):
        return await in_pairs(
            sizes.pairs,
            sizes.each,
            lambda: other.run(steps, sizes.each, None),
            lambda: engine.run(steps, sizes.each, None),
        )


WORKS: dict[str, Callable[[Path, Sizes], Awaitable[Figures]]] = {
    work.__name__: work for work in (enqueue, limited, claims, map_steps, encrypted)
}


async def run(work: str, file: Path, sizes: Sizes) -> Figures:
    return await WORKS[work](file, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two works, and print their figures.")
    parser.add_argument("work", choices=[*WORKS])
    parser.add_argument("file", type=Path)
    parser.add_argument("--tiny", action="store_true", help="as little of it as runs")
    arguments = parser.parse_args()
    sizes = TINY if arguments.tiny else WHOLE
    print(json.dumps(asyncio.run(run(arguments.work, arguments.file, sizes))))


if __name__ == "__main__":
    main()
