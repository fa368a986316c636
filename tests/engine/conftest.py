from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import new_database
from tests.processes import Journal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A workflow database with nothing in it."""
    return new_database(tmp_path / "workflows.db")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")
