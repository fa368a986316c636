"""A worker beside which a database is moved: python -m tests.moving.worker DATABASE."""

from __future__ import annotations

import asyncio
import sys

from durable_workflow_sqlite.worker import run_worker
from tests.moving import orders

if __name__ == "__main__":
    asyncio.run(run_worker(sys.argv[1], orders.WORKFLOWS, max_concurrent=5))
