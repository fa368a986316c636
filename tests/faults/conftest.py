"""What every campaign counts by."""

from __future__ import annotations

from collections import Counter

import pytest


@pytest.fixture
def counts() -> Counter[str]:
    """What this test did and saw, added up over its campaign at the end of the run."""
    return Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> None:
    if call.when == "call" and "counts" in item.funcargs:
        item.user_properties.append(("faults", dict(item.funcargs["counts"])))
