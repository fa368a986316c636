"""What the whole run says at its end; counts come from the tests that did the harm."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

SEED = "DURABLE_SEED"
COUNTED = {
    "kill points": "crash campaign: {total} kill points in {tests} scenarios",
    "schedules": "generated workflows: {total} schedules of crashes; seed {seed}, set by " + SEED,
}


def pytest_configure(config: pytest.Config) -> None:
    # Before the processes of xdist, so that all of them have the same one.
    os.environ.setdefault(SEED, str(random.SystemRandom().randrange(10**9)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, words in COUNTED.items():
        values = [
            value
            for report in terminalreporter.getreports("passed")
            + terminalreporter.getreports("failed")
            for key, value in report.user_properties
            if key == name and report.when == "call"
        ]
        if values:
            line = words.format(total=sum(values), tests=len(values), seed=os.environ[SEED])
            terminalreporter.write_line(line)
