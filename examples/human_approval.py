"""A person approves an expense. If this takes too long, the boss is asked.

    python human_approval.py

The times here are tenths of a second; in a real office they would be days.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from durable_workflow_sqlite import (
    DurableEngine,
    SignalTimeoutError,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

PATIENCE = timedelta(seconds=0.2)


@dataclass
class Decision:
    by: str
    is_yes: bool


@workflow
async def expense(ctx: WorkflowContext, what: str) -> str:
    await ctx.step("ask the lead", ask, "lead", what)
    try:
        decision = await ctx.wait_signal("decision", timeout=PATIENCE, type=Decision)
    except SignalTimeoutError:  # raised again on every replay, so the boss is asked once
        await ctx.step("ask the boss", ask, "boss", what)
        decision = await ctx.wait_signal("decision", type=Decision)
    return f"{what}: {'yes' if decision.is_yes else 'no'}, says the {decision.by}"


async def ask(whom: str, what: str) -> None:
    print(f"dear {whom}, may we have {what}?")


async def main() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        quick = await engine.start(expense, "a plant")
        await quick.signal("decision", Decision("lead", True))
        print(first := await quick.result())

        slow = await engine.start(expense, "a piano")
        await asyncio.sleep(2 * PATIENCE.total_seconds())  # the lead is on holiday
        await slow.signal("decision", Decision("boss", False))
        print(second := await slow.result())

    assert first == "a plant: yes, says the lead"
    assert second == "a piano: no, says the boss"


if __name__ == "__main__":
    asyncio.run(main())
