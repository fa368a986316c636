from __future__ import annotations

import pytest

from tests.testing.notes import noted


@pytest.fixture(autouse=True)
def _nothing_noted() -> None:
    noted.clear()
