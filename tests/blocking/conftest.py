"""What the tests of the API without `await` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import new_database
from tests.over_postgres import is_on, parametrize, placed

__all__ = ["is_on", "placed"]

QUICK = frozenset(
    {
        "test_a_handle_signals_and_observes",
        "test_after_ctrl_c_one_can_go_on",
    }
)
"""A program and a wait over PostgreSQL; all others are in the campaigns."""

LEFT_OUT = frozenset(
    {
        # Its store has a thread of its own, and says that it can write nothing any more.
        "test_a_thread_that_cannot_be_had_any_more_is_no_failure_of_a_step",
    }
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, QUICK, LEFT_OUT)


@pytest.fixture
def file(tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    """A workflow database with nothing in it."""
    return placed(new_database(tmp_path / "workflows.db"))
