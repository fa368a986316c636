"""The pytest plugin: it registers itself, costs nothing unused, and lives beside others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

OURS = "durable_workflow_sqlite_pytest"
WORKFLOW = """
from datetime import timedelta
import pytest
from durable_workflow_sqlite import WorkflowContext, workflow

@workflow
async def month(ctx: WorkflowContext) -> str:
    await ctx.sleep("month", timedelta(days=30))
    return await ctx.step("say", lambda: "done")
"""


def pytest_run(folder: Path, test: str, *options: str, plugins: str | None = None) -> str:
    """What pytest prints, with these plugins alone, or with all that are installed."""
    (folder / "test_it.py").write_text(WORKFLOW + test)
    alone = {} if plugins is None else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    chosen = [] if plugins is None else [word for one in plugins.split() for word in ("-p", one)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", *chosen, *options, "test_it.py"],
        env=os.environ | alone,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.campaign
def test_it_registers_itself_and_needs_no_other_plugin(tmp_path: Path) -> None:
    test = """
def test_a_month(durable):
    durable.crash_at("say")
    assert durable.run(month) == "done"
"""
    assert "1 passed" in pytest_run(tmp_path, test, "-p", "no:asyncio", "-p", "no:anyio")


@pytest.mark.campaign
def test_it_works_beside_pytest_asyncio(tmp_path: Path) -> None:
    test = """
async def test_a_month(async_durable):
    async_durable.crash_at("say")
    assert await async_durable.run(month) == "done"

async def test_that_leaves_it_in_the_middle(async_durable):
    async_durable.crash_at("month", "before")
    await async_durable.start(month)
    await async_durable.settle()
"""
    printed = pytest_run(
        tmp_path,
        test,
        "-o",
        "asyncio_mode=auto",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        plugins=f"{OURS} pytest_asyncio.plugin",
    )
    assert "2 passed" in printed, printed


@pytest.mark.campaign
def test_it_works_beside_anyio(tmp_path: Path) -> None:
    test = """
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

async def test_a_month(async_durable):
    async_durable.crash_at("say")
    assert await async_durable.run(month) == "done"

async def test_that_leaves_it_in_the_middle(async_durable):
    async_durable.crash_at("month", "before")
    await async_durable.start(month)
    await async_durable.settle()
"""
    printed = pytest_run(tmp_path, test, plugins=f"{OURS} anyio.pytest_plugin")
    assert "2 passed" in printed, printed


def test_a_plan_that_was_not_carried_out_fails_a_test_that_passed(tmp_path: Path) -> None:
    test = """
def test_that_passes(durable):
    durable.crash_at("sya")

def test_that_fails(durable):
    durable.crash_at("sya")
    assert durable.run(month) == "undone"
"""
    printed = pytest_run(tmp_path, test, plugins=OURS)
    assert "1 failed, 1 passed, 1 error" in printed
    assert "a crash after step 'sya'" in printed
    told, _, _ = printed.partition("short test summary")
    assert told.count("a crash after step 'sya'") == 1


@pytest.mark.campaign
def test_a_failure_is_shown_where_the_test_asked(tmp_path: Path) -> None:
    test = """
def test_history(durable):
    durable.run(month)
    durable.history().assert_ran("say", times=2)
"""
    printed = pytest_run(tmp_path, test, plugins=OURS)
    assert "step 'say' should have run twice, and ran once. It was:" in printed
    assert re.search(r"test_it\.py:\d+: AssertionError", printed)
    assert "history.py" not in printed


def test_a_run_that_uses_no_fixture_of_it_does_not_import_the_library(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_nothing():\n"
        "    assert 'durable_workflow_sqlite_pytest' in sys.modules\n"
        "    loaded = {'durable_workflow_sqlite', 'msgspec', 'aiosql', 'sqlite3', 'asyncio'}\n"
        "    assert loaded & set(sys.modules) == set()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:anyio", "test_it.py"],
        cwd=tmp_path,
        env={
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "durable_workflow_sqlite_pytest",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout
