"""Steps that are in doubt and do not simply run again, killed at every one of their writes.

The journal is the outside world: an action takes effect when it notes that. So a person, or a
probe, can look there, and must find each effect at most once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from durable_workflow_sqlite import (
    Done,
    DurableEngine,
    ExecutionConflictError,
    NotDone,
    RetryPolicy,
    StepAmbiguousError,
    StepStatus,
    WorkflowContext,
    WorkflowDefinition,
    step_info,
    workflow,
)
from tests.crash.harness import EXECUTION, Scenario, run
from tests.oracle import ONCE
from tests.processes import Journal

QUICK = RetryPolicy.fixed(max_attempts=50, delay=timedelta(milliseconds=2))
PARKS_AT_ONCE = {"park_after": timedelta(milliseconds=1)}
FAILS, ASKS, PROBED = f"{ONCE}fails", f"{ONCE}asks", f"{ONCE}probed"


async def act(journal: Journal, name: str) -> str:
    info = step_info()
    assert (info.step_name, info.is_compensation) == (name, False)
    journal.note(f"run {name}")
    await asyncio.sleep(journal.action_s)
    journal.note(f"effect {name}")
    journal.note(f"over {name}")
    return name


async def undo(journal: Journal, name: str) -> None:
    info = step_info()
    assert (info.step_name, info.is_compensation) == (name, True)
    journal.note(f"undo {name}")
    await asyncio.sleep(journal.action_s)
    journal.note(f"undone {name}")
    journal.note(f"over {name}")


async def probe(journal: Journal, name: str, line: str, key: str) -> Done[str] | NotDone:
    """Every other time, the outside world does not answer."""
    assert key
    if journal.note(f"probe {line} {name}") % 2:
        raise ConnectionError("try again")
    return Done(name) if f"{line} {name}" in journal.lines else NotDone()


def probe_in_thread(journal: Journal, name: str, line: str, key: str) -> Done[str] | NotDone:
    return asyncio.run(probe(journal, name, line, key))


def doubts(journal: Journal, *, fails: bool = False) -> WorkflowDefinition[..., Any]:
    """One step of each policy, and at the end, if it fails, their compensations."""

    @workflow(name="doubts")
    async def body(ctx: WorkflowContext) -> list[str]:
        results: list[str] = []
        asked = partial(probe, journal)
        in_thread = partial(probe_in_thread, journal)
        policies: list[tuple[str, Any, Any]] = [
            (FAILS, "fail", "fail"),
            (ASKS, "ask", "ask"),
            (PROBED, partial(asked, PROBED, "effect"), partial(asked, PROBED, "undone")),
            (
                f"{PROBED} in a thread",
                partial(in_thread, f"{PROBED} in a thread", "effect"),
                partial(in_thread, f"{PROBED} in a thread", "undone"),
            ),
        ]
        for name, in_doubt, compensate_in_doubt in policies:
            try:
                result = await ctx.step(
                    name,
                    partial(act, journal, name),
                    compensate=partial(undo, journal),
                    retry=QUICK,
                    compensate_retry=QUICK,
                    in_doubt=in_doubt,
                    compensate_in_doubt=compensate_in_doubt,
                )
            except StepAmbiguousError:
                result = "?"
            journal.note(f"done {name}" if result != "?" else f"ambiguous {name}")
            results.append(result)
        if fails:
            raise ValueError("fails in the end")
        return results

    return body


def doubts_that_fail(journal: Journal) -> WorkflowDefinition[..., Any]:
    return doubts(journal, fails=True)


async def answer(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """A person looks at the outside world, and answers what is asked."""
    store = engine._settings.store
    ending = asyncio.create_task(run(engine, definition, journal))
    while not ending.done():
        for one in await store.load_checkpoints(EXECUTION):
            is_question = one.error_type is not None and "Ambiguous" in one.error_type
            if one.status is not StepStatus.INTENT or not is_question or one.due_at is not None:
                continue
            name = one.step_name.removesuffix(":compensate")
            is_done = f"{'effect' if one.attempt else 'undone'} {name}" in journal.lines
            if one.attempt == 0:
                told: dict[str, Any] = {"value": None} if is_done else {"not_done": True}
            else:
                told = {"value": name} if is_done else {"not_done": True}
            with suppress(ExecutionConflictError):  # it has been answered
                await engine.resolve(EXECUTION, one.step_name, **told)
        await asyncio.sleep(0.002)
    await ending


DOUBTS = [
    Scenario("in doubt", doubts, answer),
    Scenario("in doubt, parked", doubts, answer, engine=PARKS_AT_ONCE),
    Scenario("in doubt, and undone", doubts_that_fail, answer, ("FAILED",)),
]
