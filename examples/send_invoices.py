"""A plain script that can be stopped at any point. Run again, it continues where it stopped.

    python send_invoices.py november.db pen@example.org ink@example.org

Each customer's invoice is numbered and sent once, however often the script is run. Stop it with
Ctrl-C, or kill it; run the same line again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore, WorkflowContext, workflow

OUTBOX = Path("outbox.txt")


@workflow
async def send_invoices(ctx: WorkflowContext, customers: list[str]) -> int:
    for number, customer in enumerate(customers, 1):
        key = ctx.idempotency_key(f"send {number}")
        await ctx.step(f"send {number}", send, customer, number, key)
    return len(customers)


def send(customer: str, number: int, key: str) -> None:
    """Send a mail. The key is the same when it is sent again after a crash in the middle of it."""
    time.sleep(0.1)
    with OUTBOX.open("a", encoding="utf-8") as outbox:
        outbox.write(f"invoice {number} to {customer} ({key})\n")


async def main(database: str, customers: list[str]) -> None:
    async with (
        SqliteCheckpointStore.file(database) as store,
        DurableEngine(store, workflows=[send_invoices]) as engine,
    ):
        count = await engine.run(send_invoices, customers, execution_id="invoices")
        print(f"{count} invoices are sent; see {OUTBOX}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit("stopped; run it again to go on")
