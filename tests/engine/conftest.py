from __future__ import annotations

from pathlib import Path

import pytest

from tests.lives import Journal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a workflow database may be."""
    return tmp_path / "workflows.db"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")
