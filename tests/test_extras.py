"""What an extra brings is imported by those who use it, and by nobody else."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
OF_THE_CORE = {"aiosql", "cronsim", "msgspec"}


def extras() -> dict[str, list[str]]:
    """The distributions that each extra names."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    return {
        name: [re.split(r"[^\w.-]", one, maxsplit=1)[0].lower() for one in requirements]
        for name, requirements in project["optional-dependencies"].items()
        if name != "dev"
    }


# It reads what is installed file by file.
packages_distributions = functools.cache(importlib.metadata.packages_distributions)


def modules_of(distribution: str) -> list[str]:
    return [
        module
        for module, distributions in packages_distributions().items()
        if distribution in {one.lower() for one in distributions}
    ]


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "module",
    [
        "durable_workflow_sqlite",
        "durable_workflow_sqlite.blocking",
        "durable_workflow_sqlite.worker",
        "durable_workflow_sqlite.__main__",
    ],
)
def test_the_core_imports_no_extra(module: str) -> None:
    wanted = {name for named in extras().values() for one in named for name in modules_of(one)}
    assert "opentelemetry" in wanted
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert wanted.intersection(done.stdout.split()) == set()


def test_the_core_needs_three_distributions() -> None:
    requirements = importlib.metadata.requires("durable-workflow-sqlite") or []
    needed = {
        re.split(r"[^\w.-]", one, maxsplit=1)[0]
        for one in requirements
        if "extra ==" not in one and "win32" not in one
    }
    assert needed == OF_THE_CORE


def test_the_oldest_frameworks_that_are_tested_are_the_lower_bounds_of_the_extras() -> None:
    (line,) = re.findall(r"^OLDEST := (.+)$", (PROJECT.parent / "Makefile").read_text(), re.M)
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    wanted = [one for extra in project["optional-dependencies"].values() for one in extra]
    for pinned in line.split():
        name, version = pinned.split("==")
        assert any(one.startswith(f"{name}>={version},") for one in wanted), pinned
