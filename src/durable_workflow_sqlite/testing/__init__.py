"""For tests: a clock that they move, and the suite that every `CheckpointStore` must pass.

Needs pytest.
"""

import pytest

# So that a failing assert of the suite shows its values, as in a test file.
for _part in ("base", "claims", "limits", "saving"):
    pytest.register_assert_rewrite(f"durable_workflow_sqlite.testing.contract_{_part}")

from durable_workflow_sqlite.testing.clock import ManualClock  # noqa: E402
from durable_workflow_sqlite.testing.store_contract import CheckpointStoreContract  # noqa: E402

__all__ = ["CheckpointStoreContract", "ManualClock"]
