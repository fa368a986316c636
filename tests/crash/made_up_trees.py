"""Made-up trees of executions: one workflow that does what its argument says."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import (
    ChildCancelledError,
    ChildFailedError,
    ChildHandle,
    SignalTimeoutError,
    WorkflowContext,
    workflow,
)
from tests.crash.trees import LIMITS, AnyWorkflow, Tree, do, run, undo
from tests.processes import Journal

Spec = dict[str, Any]
"""`name`, and `acts`: each a list that begins with its kind."""


ALONE = ["do", "do", "limited", "steps"]
WITH_CHILDREN = ["child", "start", "map", "caught", "cancel", "nap", "any", "signal"]


def spec_of(chance: random.Random, name: str = "r", depth: int = 3) -> Spec:
    kinds = ALONE + WITH_CHILDREN if depth else ALONE
    acts: list[list[Any]] = []
    for number in range(chance.randint(1, 3)):
        kind = chance.choice(kinds)
        inner = [spec_of(chance, f"{name}{number}{i}", depth - 1) for i in "ab"] if depth else []
        queue = chance.choice([None, "one"])
        if kind in ("child", "caught", "start", "cancel"):
            acts.append([kind, inner[0], chance.choice(["cancel", "detach"]), queue])
        elif kind in ("map", "any"):
            acts.append([kind, inner, queue])
        elif kind == "signal":
            waits = {"name": f"{name}{number}w", "acts": [["do"], ["wait"], ["do"]]}
            acts.append([kind, waits, queue])
        else:
            acts.append([kind])
    if depth < 3 and not chance.randrange(6):
        acts.append(["fail"])
    elif not chance.randrange(6):
        acts.append(["again"])
    return {"name": name, "acts": acts}


def made_up(
    spec: Spec, journal: Journal, act: Callable[[Journal, str], Any] = do
) -> list[AnyWorkflow]:
    """act: what each step does."""

    @workflow(name="node")
    async def node(ctx: WorkflowContext, told: Spec) -> str:
        name = told["name"]
        started: list[ChildHandle[str]] = []
        for number, (kind, *rest) in enumerate(told["acts"]):
            label = f"{name} {number}"
            if kind == "do":
                back = partial(undo, journal)
                await ctx.step("do", partial(act, journal), label, compensate=back)
            elif kind == "nap":
                await asyncio.sleep(0.002)
            elif kind == "limited":
                back, limited = partial(undo, journal), partial(act, journal)
                await ctx.step("do", limited, label, compensate=back, limit="api")
            elif kind == "steps":
                items = [f"{label} {item}" for item in "abc"]
                await ctx.map("item", partial(act, journal), items, max_concurrency=2)
            elif kind == "wait":
                with suppress(SignalTimeoutError):
                    await ctx.wait_signal("go", timedelta(hours=1))
            elif kind == "child":
                await ctx.child("child", node, rest[0], queue=rest[2])
            elif kind == "caught":
                with suppress(ChildFailedError, ChildCancelledError):
                    await ctx.child("child", node, rest[0], queue=rest[2])
            elif kind == "map":
                await ctx.map("child", node, rest[0], on_error="collect")
            elif kind in ("start", "cancel"):
                detached, queue = rest[1], rest[2]
                handle = await ctx.start_child(
                    "child", node, rest[0], on_parent_end=detached, queue=queue
                )
                started.append(handle)
                if kind == "cancel":
                    await handle.cancel()
            elif kind == "any":
                both = [await ctx.start_child("child", node, x, queue=rest[1]) for x in rest[0]]
                await ctx.wait_any(*both, ctx.timer("tick", timedelta(seconds=5)))
                started += both
            elif kind == "signal":
                handle = await ctx.start_child("child", node, rest[0], queue=rest[1])
                await handle.signal("go", label)
                started.append(handle)
            elif kind == "again":
                return ctx.continue_as_new({"name": f"{name}'", "acts": [["do"]]})
            elif kind == "fail":
                raise ValueError(label)
        for handle in started[::2]:
            with suppress(ChildFailedError, ChildCancelledError):
                await handle.result()
        return str(name)

    @workflow(name="root")
    async def root(ctx: WorkflowContext) -> str:
        return await ctx.child("child", node, spec)

    return [root, node]


def tree_of(seed: int, number: int) -> Tree:
    chance = random.Random(f"{seed} {number}")
    spec = spec_of(chance)
    return Tree(str(spec), partial(made_up, spec), run, "", parks=bool(number % 2), limits=LIMITS)


def made_up_violations(file: Path) -> Iterator[str]:
    """What holds for every tree, once all of it is over."""
    with closing(sqlite3.connect(file)) as connection:
        yield from broken_rules(connection)


def broken_rules(connection: Any) -> Iterator[str]:
    for text, statement in RULES.items():
        for found in connection.execute(statement):
            yield f"{text}: {found}"


RULES = {
    "it is not over": """
        select workflow_execution_id, status, trouble, blocked_reason from workflow_executions
        where status not in ('COMPLETED', 'FAILED', 'CANCELLED')""",
    "a start is not recorded exactly once": """
        select child.workflow_execution_id, count(start.id) from workflow_executions as child
        left join step_checkpoints as start
            on start.workflow_execution_id = child.parent_execution_id and start.attempt = 1
            and start.output_data = json_quote(child.workflow_execution_id)
        join workflow_executions as parent
            on parent.workflow_execution_id = child.parent_execution_id and parent.run_number = 1
        group by 1 having count(start.id) != 1""",
    "a child that is recorded is not there": """
        select start.output_data from step_checkpoints as start
        where start.step_name = 'child' and start.kind = 'STEP' and start.attempt = 1
        and json_extract(start.output_data, '$') not in
            (select workflow_execution_id from workflow_executions)""",
    "a parent is not told exactly once": """
        select child.workflow_execution_id, count(told.workflow_signal_id)
        from workflow_executions as child left join workflow_signals as told
            on told.workflow_execution_id = child.parent_execution_id
            and told.signal_name = '$child:' || child.workflow_execution_id
        where child.parent_execution_id is not null
        group by 1 having count(told.workflow_signal_id) != 1 or max(told.status) = 'PENDING'""",
    "a request to cancel is left": """
        select workflow_execution_id from workflow_signals
        where signal_name = '$cancel' and status = 'PENDING'""",
    "what was done is not undone": """
        select done.workflow_execution_id, done.output_data from step_checkpoints as done
        join workflow_executions as execution using (workflow_execution_id)
        where execution.status in ('FAILED', 'CANCELLED') and done.attempt > 0
        and done.compensate_ref is not null and done.status = 'COMPLETED' and not exists (
            select 1 from step_checkpoints as undone
            where undone.workflow_execution_id = done.workflow_execution_id
            and undone.branch = done.branch and undone.step_index = done.step_index
            and undone.attempt = 0 and undone.status = 'COMPENSATED')""",
    "it was undone, and has completed": """
        select workflow_execution_id from workflow_executions
        join step_checkpoints as undone using (workflow_execution_id)
        where workflow_executions.status = 'COMPLETED' and undone.attempt = 0""",
    "a child outlived the undoing of its parent": """
        select child.workflow_execution_id from workflow_executions as child
        join workflow_executions as parent
            on parent.workflow_execution_id = child.parent_execution_id
        where parent.status in ('FAILED', 'CANCELLED') and child.on_parent_end = 'cancel'
        and parent.run_number = 1 and child.status_since > parent.status_since""",
    "a slot leaked": """
        select name, fencing_token from workflow_step_slots
        where fencing_token in (select fencing_token from workflow_claims)
        union all
        select workflow_execution_id, fencing_token from workflow_claims""",
    "it is over, and paused": """
        select workflow_execution_id, paused_at, paused_with from workflow_executions
        where paused_at is not null or paused_with is not null""",
}
