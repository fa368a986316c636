"""Versions side by side: in one worker, in several workers; and what a strict worker refuses."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from durable_workflow_sqlite.worker import CodeDoesNotFitError, run_worker
from tests.commands import run_command


@workflow(name="order", version=1)
async def first(ctx: WorkflowContext) -> str:
    await ctx.wait_signal("go")
    return await ctx.step("charge", lambda: "of version 1")


@workflow(name="order", version=2)
async def second(ctx: WorkflowContext) -> str:
    await ctx.step("check", lambda: None)
    await ctx.wait_signal("go")
    return await ctx.step("charge", lambda: "of version 2")


async def wait_for_signal(store: SqliteCheckpointStore, *ids: str) -> None:
    for one in ids:
        while not await store.load_open_waits(one, "go"):
            await asyncio.sleep(0.005)


def an_engine(store: SqliteCheckpointStore, *workflows: Any) -> DurableEngine:
    return DurableEngine(store, workflows)


async def test_one_worker_runs_each_execution_with_the_version_it_was_started_with(
    file: Path,
) -> None:
    async with SqliteCheckpointStore.file(file) as store, an_engine(store, first) as engine:
        await engine.start(first, execution_id="old")
        await wait_for_signal(store, "old")
    async with SqliteCheckpointStore.file(file) as store, an_engine(store, second, first) as engine:
        await engine.start(second, execution_id="new")
        await wait_for_signal(store, "new")
        for one, result in (("old", "of version 1"), ("new", "of version 2")):
            await engine.send_signal(one, "go")
            assert await engine.result_of(one) == result


async def test_workers_of_several_versions_share_a_store(file: Path) -> None:
    """Each takes what it has, the old one also while it stops."""
    async with (
        SqliteCheckpointStore.file(file) as old_store,
        SqliteCheckpointStore.file(file) as new_store,
    ):
        async with an_engine(new_store, second) as new:
            async with an_engine(old_store, first) as old:
                for number in range(5):
                    await new.enqueue(first, execution_id=f"old {number}")
                    await old.enqueue(second, execution_id=f"new {number}")
                await wait_for_signal(
                    new_store, *(f"{v} {n}" for v in ("old", "new") for n in range(5))
                )
                for number in range(5):
                    await new.send_signal(f"old {number}", "go")
                    await old.send_signal(f"new {number}", "go")
                    assert await new.result_of(f"old {number}") == "of version 1"
                    assert await old.result_of(f"new {number}") == "of version 2"
            await new.enqueue(first, execution_id="late")
            await new.enqueue(second, execution_id="too")
            await new.send_signal("too", "go")
            assert await new.result_of("too") == "of version 2"
            assert (await new.load("late")).status == "PENDING"
        async with an_engine(old_store, first) as old:
            await old.send_signal("late", "go")
            assert await old.result_of("late") == "of version 1"


# Strict


def patched(how: str) -> WorkflowDefinition[..., Any]:
    @workflow
    async def note(ctx: WorkflowContext) -> None:
        await ctx.step("write", lambda: None)
        if how == "deprecated":
            ctx.deprecate_patch("copy")
        if how == "patched" and ctx.patched("copy"):
            await ctx.step("copy", lambda: None)
        await ctx.wait_signal("go")

    return note


async def begin(file: Path, *workflows: WorkflowDefinition[..., Any]) -> None:
    async with SqliteCheckpointStore.file(file) as store, an_engine(store, *workflows) as engine:
        ids = [(await engine.start(one)).execution_id for one in workflows]
        await wait_for_signal(store, *ids)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (first, second, r"1 of order v1 \(no workflow\), as '.*': no workflow 'order' here has"),
        (
            patched(""),
            patched("deprecated"),
            r"1 of note v1 \(stops\), as '.*came to the place of patch 'copy' before",
        ),
    ],
    ids=["a version", "a patch"],
)
async def test_a_strict_worker_does_not_start_without_what_is_needed(
    file: Path,
    old: WorkflowDefinition[..., Any],
    new: WorkflowDefinition[..., Any],
    says: str,
) -> None:
    await begin(file, old)
    with pytest.raises(CodeDoesNotFitError, match=f"(?s)the worker does not start.*{says}"):
        await run_worker(file, [new], strict=True)
    async with SqliteCheckpointStore.file(file) as store:
        (one,) = await store.load_executions_by_status(["SUSPENDED"])  # type: ignore[list-item]
    assert one.trouble is None


CODE = """
from durable_workflow_sqlite import WorkflowContext, workflow

@workflow(version={version})
async def order(ctx: WorkflowContext) -> str:
    await ctx.wait_signal("go")
    return "ended"

@workflow
async def other(ctx: WorkflowContext) -> None: ...
"""


@pytest.fixture
def app(tmp_path: Path) -> Callable[[int], Path]:
    def write(version: int) -> Path:
        folder = tmp_path / f"version {version}"
        folder.mkdir()
        (folder / "strict_app.py").write_text(CODE.format(version=version))
        return folder

    return write


def test_the_command_exits_with_1_and_doctor_names_what_is_missing(
    file: Path, app: Callable[[int], Path]
) -> None:
    asyncio.run(begin(file, first))
    folder = app(2)
    words = ("--app", "strict_app")
    done = run_command("worker", file, *words, "--strict", env=os.environ, cwd=folder)
    assert done.returncode == 1
    (line,) = [one for one in done.stderr.splitlines() if "does not start" in one]
    assert "no workflow 'order' here has version 1; here is version 2" in line
    done = run_command("doctor", file, *words, "--json", env=os.environ, cwd=folder)
    assert done.returncode == 4
    (finding,) = [one for one in json.loads(done.stdout) if one["check"] == "code"]
    assert finding["level"] == "error"
    assert re.match(
        "1 unfinished execution would not go on with this code: 1 of", finding["message"]
    )
    assert "check-code FILE --app strict_app" in finding["hint"]
    done = run_command("doctor", file, *words, "--json", env=os.environ, cwd=app(1))
    (finding,) = [one for one in json.loads(done.stdout) if one["check"] == "code"]
    assert finding["level"] == "ok"
    assert finding["message"] == "1 unfinished execution would go on with this code"


async def test_a_strict_worker_starts_where_all_fits_or_stopped_before(file: Path) -> None:
    await begin(file, first, patched(""))

    @workflow(name="note")
    async def broken(ctx: WorkflowContext) -> None:
        await ctx.step("renamed", lambda: None)

    async with SqliteCheckpointStore.file(file) as store, an_engine(store, broken) as engine:
        await engine.send_signal((await only(store, "note@1")), "go")
        while (await engine.load(await only(store, "note@1"))).trouble is None:
            await asyncio.sleep(0.005)
    # What is in trouble already does not keep it from starting, nor does what others run.
    worker = asyncio.create_task(run_worker(file, [second, first, broken], strict=True))
    async with SqliteCheckpointStore.file(file) as store:
        one = await only(store, "order@1")
        async with DurableEngine(store) as client:
            await client.send_signal(one, "go")
            assert await client.result_of(one) == "of version 1"
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


async def only(store: SqliteCheckpointStore, workflow_id: str) -> str:
    found = await store.load_executions_by_status(["RUNNING", "SUSPENDED", "PENDING"])  # type: ignore[list-item]
    (one,) = [one for one in found if one.workflow_id == workflow_id]
    return one.workflow_execution_id
