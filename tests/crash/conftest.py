from __future__ import annotations

from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many deaths there were."""
    points = [
        (report.nodeid, value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "kill points"
    ]
    if points:
        total = sum(value for _, value in points)
        terminalreporter.write_line(f"crash campaign: {total} kill points in {len(points)} scenarios")


_ = pytest
