from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a workflow database may be."""
    return tmp_path / "workflows.db"
