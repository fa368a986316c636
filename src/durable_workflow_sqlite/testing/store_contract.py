"""The tests that every `CheckpointStore` must pass. To test your own store, subclass this:

    class TestMyStore(CheckpointStoreContract):
        async def open_store(self, path: Path) -> CheckpointStore:
            return await MyStore.open(path)

A store that can delete, too, has the role `Maintenance`: add `MaintenanceContract`. The suite needs
pytest and no plugin. It does not depend on how a store keeps its records.
"""

from __future__ import annotations

from durable_workflow_sqlite.testing.contract_changes import ChangesContract
from durable_workflow_sqlite.testing.contract_limits import LimitsContract
from durable_workflow_sqlite.testing.contract_maintenance import MaintenanceContract
from durable_workflow_sqlite.testing.contract_membership import MembershipContract
from durable_workflow_sqlite.testing.contract_mending import MendingContract
from durable_workflow_sqlite.testing.contract_pausing import PausingContract
from durable_workflow_sqlite.testing.contract_queue import QueueContract
from durable_workflow_sqlite.testing.contract_queues import QueuesContract
from durable_workflow_sqlite.testing.contract_records import RecordsContract
from durable_workflow_sqlite.testing.contract_schedules import SchedulesContract
from durable_workflow_sqlite.testing.contract_trees import TreesContract

__all__ = ["CheckpointStoreContract", "MaintenanceContract"]


class CheckpointStoreContract(
    RecordsContract,
    QueueContract,
    QueuesContract,
    ChangesContract,
    MembershipContract,
    MendingContract,
    SchedulesContract,
    PausingContract,
    TreesContract,
    LimitsContract,
):
    """Override `open_store`; set `can_be_shared = False` if two workers cannot share records."""
