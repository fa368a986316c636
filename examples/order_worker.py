"""The process that the demo kills: fulfils all orders of a file, and continues after a kill.

    python order_worker.py DATABASE ORDERS PAYMENTS

You can run it several times: an order that was started is not started again, and a finished order
is not changed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from orders import Order, fulfil, read_orders

from durable_workflow_sqlite import DurableEngine, SqliteCheckpointStore

AT_ONCE = 3
"""How many orders run at once. It is small, so that some are left when the worker is killed."""


async def main(database: Path, orders: Path, payments: str) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    async with (
        SqliteCheckpointStore.file(database) as store,
        DurableEngine(store, workflows=[fulfil]) as engine,  # entering resumes what was cut off
    ):

        async def fulfil_one(order: Order) -> None:
            async with free:
                # An id that exists already is not started again: this waits for its result.
                await engine.run(fulfil, order, payments, execution_id=f"order-{order.number}")

        await asyncio.gather(*map(fulfil_one, read_orders(orders)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
