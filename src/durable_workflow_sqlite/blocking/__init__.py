"""The store and the engine without `await`, for scripts, Flask, Django and notebooks.

    from durable_workflow_sqlite.blocking import DurableEngine, SqliteCheckpointStore

    with SqliteCheckpointStore.file("workflows.db") as store:
        with DurableEngine(store, workflows=[order]) as engine:
            receipt = engine.run(order, "A-1001", execution_id="order-A-1001")

Workflows are async functions as everywhere; they run on an event loop in a thread that belongs to
the store. Names, arguments, results and errors are those of the async classes. Any thread may
call; each call waits for its answer, and Ctrl-C interrupts the wait, not the work: an execution
goes on until the engine is disposed of, and is resumed by the next one. A process that ends
without closing its stores has them closed, as the main thread ends.
"""

from durable_workflow_sqlite.blocking.client import Client, ExecutionHandle
from durable_workflow_sqlite.blocking.engine import DurableEngine
from durable_workflow_sqlite.blocking.store import (
    CheckpointStore,
    SqliteCheckpointStore,
    StatementStore,
    open_store,
)

__all__ = [
    "CheckpointStore",
    "Client",
    "DurableEngine",
    "ExecutionHandle",
    "SqliteCheckpointStore",
    "StatementStore",
    "open_store",
]
