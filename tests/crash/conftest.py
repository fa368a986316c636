from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many deaths there were."""
    points = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "kill points"
    ]
    if points:
        terminalreporter.write_line(
            f"crash campaign: {sum(points)} kill points in {len(points)} scenarios"
        )
