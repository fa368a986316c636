"""The tests that every `CheckpointStore` must pass. To test your own store, subclass this:

    class TestMyStore(CheckpointStoreContract):
        async def open_store(self, path: Path) -> CheckpointStore:
            return await MyStore.open(path)

It needs pytest and no plugin. It does not depend on how a store keeps its records.
"""

from __future__ import annotations

from durable_workflow_sqlite.testing.contract_claims import ClaimsContract
from durable_workflow_sqlite.testing.contract_limits import LimitsContract
from durable_workflow_sqlite.testing.contract_people import PeopleContract
from durable_workflow_sqlite.testing.contract_queue import QueueContract
from durable_workflow_sqlite.testing.contract_saving import SavingContract
from durable_workflow_sqlite.testing.contract_suspects import SuspectsContract


class CheckpointStoreContract(
    SavingContract,
    ClaimsContract,
    QueueContract,
    SuspectsContract,
    LimitsContract,
    PeopleContract,
):
    """Override `open_store`; set `can_be_shared = False` if two workers cannot share records."""
