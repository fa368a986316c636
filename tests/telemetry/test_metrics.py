"""What is counted and measured: each thing once, however often it is replayed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.telemetry import OpenTelemetryObserver
from durable_workflow_sqlite.testing import ManualClock
from tests.telemetry.conftest import Telemetry


@workflow
async def two_steps(ctx: WorkflowContext) -> str:
    await ctx.step("first", lambda: 1)
    await ctx.wait_signal("go")
    return await ctx.step("second", lambda: "done")


@workflow
async def failing(ctx: WorkflowContext) -> None:
    raise ValueError("on purpose")


async def test_everything_is_counted_once_over_restarts(file: Path, telemetry: Telemetry) -> None:
    for process in range(4):
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, [two_steps, failing], observers=[telemetry.observer]) as engine,
        ):
            handle = await engine.start(two_steps, execution_id="one")
            if process == 3:
                await handle.signal("go")
                assert await handle.result() == "done"
                with pytest.raises(WorkflowFailedError):
                    await engine.run(failing, execution_id="two")
            else:
                await asyncio.sleep(0.05)
    assert telemetry.measured("execution.started", "durable_workflow.workflow.id") == {
        ("two_steps@1",): 1,
        ("failing@1",): 1,
    }
    assert telemetry.measured("execution.resumed") == {(): 3}
    assert telemetry.measured(
        "execution.duration",
        "durable_workflow.workflow.id",
        "durable_workflow.execution.status",
        "error.type",
    ) == {
        ("two_steps@1", "COMPLETED", None): 1,
        ("failing@1", "FAILED", "builtins.ValueError"): 1,
    }
    assert telemetry.measured(
        "step.duration",
        "durable_workflow.workflow.id",
        "durable_workflow.step.name",
        "durable_workflow.step.status",
    ) == {
        ("two_steps@1", "first", "COMPLETED"): 1,
        ("two_steps@1", "second", "COMPLETED"): 1,
    }
    assert telemetry.measured("wait.duration", "durable_workflow.step.name") == {("go",): 1}


async def test_durations_are_in_seconds_of_the_engines_clock(telemetry: Telemetry) -> None:
    @workflow
    async def monthly(ctx: WorkflowContext) -> None:
        await ctx.sleep("a month", timedelta(days=30))

    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, [monthly], observers=[telemetry.observer], clock=clock) as engine,
    ):
        handle = await engine.enqueue(monthly, delay=timedelta(hours=1))
        await clock.advance(timedelta(hours=1))
        await clock.advance(timedelta(days=30))
        await handle.result()
    (wait,) = telemetry.points("wait.duration")
    assert wait.sum == 30 * 86_400
    (queued,) = telemetry.points("execution.queue_time")
    assert queued.sum == 3600
    (execution,) = telemetry.points("execution.duration")
    assert execution.sum == 30 * 86_400 + 3600


async def test_the_api_alone_is_enough_and_does_nothing() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[OpenTelemetryObserver()]) as engine,
    ):
        handle = await engine.start(two_steps)
        await handle.signal("go")
        assert await handle.result() == "done"


@pytest.mark.campaign
def test_without_the_extra_its_name_is_told() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None  # as where it is not installed
import durable_workflow_sqlite.telemetry
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "ImportError: durable_workflow_sqlite.telemetry needs OpenTelemetry:"
        " pip install 'durable-workflow-sqlite[otel]'"
    )
