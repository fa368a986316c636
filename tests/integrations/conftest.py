from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import new_database
from tests.over_postgres import is_on, parametrize, placed

__all__ = ["is_on", "placed"]

QUICK = frozenset({"test_without_the_code_a_workflow_is_started_by_its_name"})
"""A start, a worker and a look over PostgreSQL; all other tests are in the campaigns."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, QUICK, frozenset())


@pytest.fixture
def file(tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    """A database with nothing in it: a file, or the URL of one on PostgreSQL."""
    return placed(new_database(tmp_path / "workflows.db"))
