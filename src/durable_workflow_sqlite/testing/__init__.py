"""For tests: a sandbox that controls time and crashes, and the contract that every store must pass.

The pytest fixtures `durable` and `async_durable` return a `Sandbox` and an `AsyncSandbox`. Both
also work without pytest. `CheckpointStoreContract` and `MaintenanceContract` need pytest.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable_workflow_sqlite.code_check import CodeCheck, check_code
from durable_workflow_sqlite.reading.histories import ExecutionHistory
from durable_workflow_sqlite.testing.blocking_sandbox import Sandbox, SandboxExecution
from durable_workflow_sqlite.testing.clock import ManualClock
from durable_workflow_sqlite.testing.history import Event, History
from durable_workflow_sqlite.testing.sandbox import AsyncSandbox, AsyncSandboxExecution

if TYPE_CHECKING:
    from durable_workflow_sqlite.testing.store_contract import (
        CheckpointStoreContract,
        MaintenanceContract,
    )

__all__ = [
    "AsyncSandbox",
    "AsyncSandboxExecution",
    "CheckpointStoreContract",
    "CodeCheck",
    "Event",
    "ExecutionHistory",
    "History",
    "MaintenanceContract",
    "ManualClock",
    "Sandbox",
    "SandboxExecution",
    "check_code",
]


def __getattr__(name: str) -> Any:
    if name not in ("CheckpointStoreContract", "MaintenanceContract"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    # So that a failing assert of the suite shows its values, as in a test file.
    for path in Path(__file__).parent.glob("contract_*.py"):
        if (module := f"{__name__}.{path.stem}") not in sys.modules:
            pytest.register_assert_rewrite(module)
    from durable_workflow_sqlite.testing import store_contract

    return getattr(store_contract, name)
