"""A nightly pipeline: three sources side by side, a flaky one among them, then one report.

    python nightly_pipeline.py

A source that is busy is asked again, later and later, and holds up none of the others. It sleeps
for a tenth of a second where a real one would sleep until the morning.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from durable_workflow_sqlite import (
    DurableEngine,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

PATIENT = RetryPolicy.exponential(max_attempts=5, initial_delay=timedelta(milliseconds=20))
calls: Counter[str] = Counter()


@workflow
async def nightly(ctx: WorkflowContext, sources: list[str]) -> str:
    counts = await asyncio.gather(*(load(ctx, name) for name in sources))
    await ctx.sleep("until the morning", timedelta(seconds=0.1))
    return await ctx.step("report", report, dict(zip(sources, counts, strict=True)))


async def load(ctx: WorkflowContext, source: str) -> int:
    rows = await ctx.step(f"fetch {source}", fetch, source, retry=PATIENT)
    return await ctx.step(f"clean {source}", clean, rows)


async def fetch(source: str) -> list[str]:
    calls[source] += 1
    if source == "mail" and calls[source] < 3:
        raise ConnectionError("mail is busy")
    return [f"{source} {number}" for number in range(len(source))]


def clean(rows: list[str]) -> int:
    return len(set(rows))


async def report(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} from {source}" for source, count in counts.items())


async def main() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        print(result := await engine.run(nightly, ["shop", "mail", "warehouse"]))
    print("calls:", dict(calls))
    assert result == "4 from shop, 4 from mail, 9 from warehouse"
    assert calls == {"shop": 1, "mail": 3, "warehouse": 1}


if __name__ == "__main__":
    asyncio.run(main())
