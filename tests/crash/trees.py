"""Trees of executions that are killed at each write, and what must hold of them at the end.

A tree has three levels. Its actions write a journal: `run NAME`, `undo NAME`. It is judged by plain
SQL: no child is lost, or there twice; nothing sleeps for ever; a tree that is undone is undone from
its leaves to its root.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import UNSET, UnsetType

from durable_workflow_sqlite import (
    ChildFailedError,
    DurableEngine,
    DurableWorkflowError,
    ExecutionFinishedError,
    Limit,
    Queue,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from tests.databases import new_database
from tests.processes import Harm, Journal, open_harmed, run_process, until

ROOT = "root"
FINAL = ("COMPLETED", "FAILED", "CANCELLED")
AnyWorkflow = WorkflowDefinition[..., Any]


@dataclass(frozen=True)
class Tree:
    """make: its workflows, the root first. drive: called again in every process. ends: of it."""

    name: str
    make: Callable[[Journal], list[AnyWorkflow]]
    drive: Callable[[DurableEngine, AnyWorkflow, Journal], Awaitable[None]]
    ends: str
    parks: bool = False
    limits: tuple[Queue | Limit, ...] = ()


async def run(engine: DurableEngine, root: AnyWorkflow, _: Journal) -> None:
    with suppress(DurableWorkflowError):
        await engine.run(root, execution_id=ROOT)


async def run_in_a_queue_of_one(engine: DurableEngine, root: AnyWorkflow, _: Journal) -> None:
    """All of it shares one slot: one that leaked would keep it waiting forever."""
    await engine.declare(Queue("mail", concurrency=1))
    handle = await engine.enqueue(root, execution_id=ROOT, queue="mail", key="kim")
    with suppress(DurableWorkflowError):
        await handle.result()


async def cancel_in_the_middle(engine: DurableEngine, root: AnyWorkflow, journal: Journal) -> None:
    handle = await engine.start(root, execution_id=ROOT)
    ending = asyncio.create_task(run(engine, root, journal))
    await until(lambda: "run leaf 1" in journal.lines or ending.done())
    with suppress(ExecutionFinishedError):
        await handle.cancel()
    await ending


async def cancel_and_pause(engine: DurableEngine, root: AnyWorkflow, journal: Journal) -> None:
    """As `cancel_in_the_middle`; before that, everything is paused with the root, and resumed."""
    handle = await engine.start(root, execution_id=ROOT)
    ending = asyncio.create_task(run(engine, root, journal))
    await until(lambda: "run leaf 1" in journal.lines or ending.done())
    with suppress(ExecutionFinishedError):
        await engine.pause(ROOT)
        await engine.resume(ROOT)
        await handle.cancel()
    await ending


def do(journal: Journal, name: str) -> str:
    journal.note(f"run {name}")
    return name


def undo(journal: Journal, name: str) -> None:
    journal.note(f"undo {name}")


def family(
    journal: Journal,
    *,
    fails: bool = False,
    waits: bool = False,
    queue: str | UnsetType = UNSET,
    limit: str | None = None,
) -> list[AnyWorkflow]:
    """A root with two children, each with two leaves by a map."""
    act = partial(do, journal)
    back = partial(undo, journal)

    @workflow(name="leaf")
    async def leaf(ctx: WorkflowContext, number: int) -> int:
        await ctx.step("do", act, f"leaf {number}", compensate=back, limit=limit)
        if waits:
            await ctx.wait_signal("never")
        if fails and number == 3:
            raise ValueError("the last leaf")
        return number

    @workflow(name="middle")
    async def middle(ctx: WorkflowContext, number: int) -> int:
        await ctx.step("do", act, f"middle {number}", compensate=back)
        return sum(await ctx.map("leaf", leaf, [2 * number, 2 * number + 1], key=str))

    @workflow(name="root")
    async def root(ctx: WorkflowContext) -> int:
        await ctx.step("do", act, "root", compensate=back)
        first = await ctx.start_child("middle", middle, 0, queue=queue)
        second = await ctx.child("middle", middle, 1, queue=queue)
        return second + await first.result()

    return [root, middle, leaf]


def caught(journal: Journal) -> list[AnyWorkflow]:
    """A parent that goes on when a child fails, and undoes the other by its compensation."""
    act, back = partial(do, journal), partial(undo, journal)

    @workflow(name="child")
    async def child(ctx: WorkflowContext, number: int) -> str:
        got = await ctx.step("do", act, f"child {number}", compensate=back)
        if number:
            raise ValueError("the second child")
        return got

    @workflow(name="root")
    async def root(ctx: WorkflowContext) -> None:
        await ctx.child("child", child, 0, compensate=back)
        with suppress(ChildFailedError):
            await ctx.child("child", child, 1)
        await ctx.step("do", act, "root")
        raise ValueError("the end")

    return [root, child]


def again_and_again(journal: Journal) -> list[AnyWorkflow]:
    """A workflow that continues as new, with a child in each run."""
    act = partial(do, journal)

    @workflow(name="child")
    async def child(ctx: WorkflowContext, number: int) -> int:
        await ctx.step("do", act, f"child {number}")
        return number + 1

    @workflow(name="root")
    async def root(ctx: WorkflowContext, number: int = 0) -> int:
        await ctx.step("do", act, f"root {number}")
        number = await ctx.child("child", child, number)
        return ctx.continue_as_new(number) if number < 3 else number

    return [root, child]


def messages(journal: Journal) -> list[AnyWorkflow]:
    """A parent that signals its children, and cancels one."""
    act = partial(do, journal)

    @workflow(name="child")
    async def child(ctx: WorkflowContext, name: str) -> str:
        got = await ctx.wait_signal("go", type=str)
        return await ctx.step("do", act, f"{name} {got}")

    @workflow(name="root")
    async def root(ctx: WorkflowContext) -> str:
        one = await ctx.start_child("child", child, "one", timeout=timedelta(minutes=5))
        other = await ctx.start_child("child", child, "other")
        await one.signal("go", "now")
        await other.cancel()
        return await one.result()

    return [root, child]


LIMITS = (Queue("one", concurrency=1), Limit("api", concurrency=1))
limited = partial(family, queue="one", limit="api")

TREES = [
    Tree("three levels", family, run, "COMPLETED"),
    Tree("three levels, parked", family, run, "COMPLETED", parks=True),
    Tree("a leaf that fails", partial(family, fails=True), run, "FAILED"),
    Tree("in a queue of one", family, run_in_a_queue_of_one, "COMPLETED"),
    Tree("in a queue of one, parked", family, run_in_a_queue_of_one, "COMPLETED", parks=True),
    Tree(
        "a leaf that fails, in a queue of one",
        partial(family, fails=True),
        run_in_a_queue_of_one,
        "FAILED",
    ),
    Tree("cancelled in the middle", partial(family, waits=True), cancel_in_the_middle, "CANCELLED"),
    Tree("a child that is undone", caught, run, "FAILED"),
    Tree("continues as new", again_and_again, run, "COMPLETED"),
    Tree("messages to children", messages, run, "COMPLETED", parks=True),
    Tree("a queue and a limit", limited, run, "COMPLETED", limits=LIMITS),
    Tree(
        "paused and cancelled in a queue",
        partial(limited, waits=True),
        cancel_and_pause,
        "CANCELLED",
        limits=LIMITS,
    ),
]


class World:
    """A folder that outlives the processes: the database, and the journal."""

    def __init__(self, folder: Path, tree: Tree) -> None:
        folder.mkdir()
        self.file = new_database(folder / "workflows.db")
        self.journal = Journal(folder / "journal")
        self.tree = tree

    def run_process(self, harm: Harm | None = None) -> bool:
        """Whether it was killed; else all executions are over."""
        return run_process(lambda: self._main(harm))

    async def _main(self, harm: Harm | None) -> None:
        workflows = self.tree.make(self.journal)
        options = {"park_after": timedelta(milliseconds=1)} if self.tree.parks else {}
        store = open_harmed(self.file, harm)
        async with store, DurableEngine(store, workflows, **options) as engine:
            await engine.declare(*self.tree.limits)
            await self.tree.drive(engine, workflows[0], self.journal)
            await until(lambda: not unfinished(self.file))

    def violations(self) -> list[str]:
        return [*violations(self.file, self.journal.lines, self.tree.ends)]


def rows(file: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(statement).fetchall()


def unfinished(file: Path) -> list[Any]:
    return rows(
        file,
        "select workflow_execution_id, status, available_at, trouble from workflow_executions"
        " where status not in ('COMPLETED', 'FAILED', 'CANCELLED')",
    )


def violations(file: Path, journal: list[str], ends: str) -> Iterator[str]:
    """What does not hold, once all executions are over."""
    yield from (f"it is not over: {one}" for one in unfinished(file))
    executions = dict(rows(file, "select workflow_execution_id, status from workflow_executions"))
    if executions.get(ROOT) != ends:
        yield f"the root ended {executions.get(ROOT)}, not {ends}"
    yield from _of_children(file, executions)
    yield from _of_the_journal(file, journal)


def _of_children(file: Path, executions: dict[str, str]) -> Iterator[str]:
    run_number = dict(
        rows(file, "select workflow_execution_id, run_number from workflow_executions")
    )
    parents = rows(
        file,
        "select workflow_execution_id, parent_execution_id, root_execution_id, status"
        " from workflow_executions where workflow_execution_id != 'root'",
    )
    started = Counter(
        json.loads(output)
        for (output,) in rows(
            file,
            "select output_data from step_checkpoints"
            " where step_name in ('child', 'middle', 'leaf') and kind = 'STEP' and attempt > 0",
        )
    )
    for child, parent, root, status in parents:
        if parent not in executions:
            yield f"{child} has no parent"
        elif root != ROOT:
            yield f"{child} has the root {root}"
        elif started[child] != 1 and run_number[parent] == 1:
            yield f"the start of {child} is recorded {started[child]} times"
        told = rows(
            file, f"select status from workflow_signals where signal_name = '$child:{child}'"
        )
        if len(told) != 1 or told[0][0] == "PENDING":
            yield f"the parent of {child}, which ended {status}, was told so by {told}"
    yield from (f"{one} is recorded, and not there" for one in started.keys() - executions.keys())
    for one, number in rows(
        file,
        "select workflow_execution_id, count(*) from workflow_signals"
        " where signal_name = '$cancel' and status = 'PENDING' group by 1",
    ):
        yield f"{number} requests to cancel {one} are left"


def _of_the_journal(file: Path, journal: list[str]) -> Iterator[str]:
    undone = [line[5:] for line in journal if line.startswith("undo ")]
    first_undone = {name: undone.index(name) for name in undone}
    for name, at in first_undone.items():
        if f"run {name}" not in journal:
            yield f"{name} was undone, and had not run"
        kind, _, number = name.partition(" ")
        if kind == "leaf" and first_undone.get(f"middle {int(number) // 2}", at) < at:
            yield f"the parent of {name} was undone before it"
        if kind == "middle" and first_undone.get("root", at) < at:
            yield f"the root was undone before {name}"
    not_undone = rows(
        file,
        "select done.output_data from step_checkpoints as done"
        " join workflow_executions as execution using (workflow_execution_id)"
        " where execution.status in ('FAILED', 'CANCELLED') and done.attempt > 0"
        " and done.compensate_ref is not null and done.status = 'COMPLETED'"
        " and done.step_name = 'do' and not exists (select 1 from step_checkpoints as undone"
        " where undone.workflow_execution_id = done.workflow_execution_id"
        " and undone.branch = done.branch and undone.step_index = done.step_index"
        " and undone.attempt = 0 and undone.status = 'COMPENSATED')",
    )
    yield from (f"{name} is not undone" for (name,) in not_undone)
