"""Workflows that are made up: what they do, and what may come of it."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from hypothesis import strategies as st

from durable_workflow_sqlite import (
    Awaited,
    RetryPolicy,
    SignalTimeoutError,
    WorkflowContext,
    WorkflowDefinition,
    report_progress,
    workflow,
)
from tests.oracle import OWN
from tests.own_tables import insert_own_row

SIGNALS = ("red", "blue")
ALWAYS = 99


@dataclass(frozen=True)
class Do:
    """A step that fails the first `failures` times that it runs."""

    failures: int = 0
    attempts: int = 1
    delay: int = 0
    is_caught: bool = False
    is_undone: bool = False
    undo_failures: int = 0
    is_own: bool = False
    """Whether it is a transaction, which writes a row of its name."""


@dataclass(frozen=True)
class Sleep:
    seconds: int


@dataclass(frozen=True)
class Wait:
    """A wait for a signal; that none came is caught."""

    signal: str
    timeout: int | None


@dataclass(frozen=True)
class First:
    """The wait for the first of all signals, and of a timer."""

    timeout: int | None


@dataclass(frozen=True)
class Branches:
    programs: tuple[Program, ...]


@dataclass(frozen=True)
class Patch:
    """A change of the code: what it did until a new process came with it, and what it does now."""

    since: int
    old: Program
    new: Program


Program = tuple[Do | Sleep | Wait | First | Branches | Patch, ...]


class Journal(Protocol):
    def note(self, line: str) -> int:
        """Add a line; return how often it stands there now."""
        ...

    @property
    def life(self) -> int:
        """How many processes there were before this one."""
        ...


def definition(program: Program, journal: Journal) -> WorkflowDefinition[..., Any]:
    """The workflow that does what a program says, and returns what came of it."""

    async def act(name: str, failures: int) -> str:
        runs = journal.note(f"run {name}")
        report_progress(runs, note=name)
        await asyncio.sleep(0)
        if runs <= failures:
            raise ConnectionError(name)
        return name

    async def undo(failures: int, name: str) -> None:
        runs = journal.note(f"undo {name}")
        await asyncio.sleep(0)
        if runs <= failures:
            raise ConnectionError(f"undo {name}")

    def put(connection: Any, execution_id: str, name: str, failures: int) -> str:
        runs = journal.note(f"run {name}")
        if isinstance(connection, dict):
            connection[execution_id, name, runs] = None
        else:
            insert_own_row(connection, execution_id, name)
        if runs <= failures:
            raise ConnectionError(name)
        return name

    async def step(ctx: WorkflowContext, name: str, do: Do) -> object:
        retry = RetryPolicy.fixed(max_attempts=do.attempts, delay=timedelta(seconds=do.delay))
        compensate = functools.partial(undo, do.undo_failures) if do.is_undone else None
        compensate_retry = RetryPolicy.fixed(max_attempts=2, delay=timedelta(seconds=1))
        try:
            if do.is_own:
                return await ctx.transaction(
                    name,
                    put,
                    ctx.execution_id,
                    name,
                    do.failures,
                    retry=retry,
                    compensate=compensate,
                    compensate_retry=compensate_retry,
                )
            return await ctx.step(
                name,
                act,
                name,
                do.failures,
                retry=retry,
                compensate=compensate,
                compensate_retry=compensate_retry,
            )
        except ConnectionError:
            if do.is_caught:
                return f"{name} failed"
            raise

    async def follow(
        ctx: WorkflowContext, program: Program, path: str, way: str = ""
    ) -> list[object]:
        came: list[object] = []
        for number, one in enumerate(program):
            ctx.progress(number, len(program), path)
            name = f"{path}{number}"
            match one:
                case Do():
                    came.append(await step(ctx, f"{OWN}{name}" if one.is_own else name, one))
                case Sleep(seconds):
                    await ctx.sleep(name, timedelta(seconds=seconds))
                case Wait(signal, seconds):
                    timeout = None if seconds is None else timedelta(seconds=seconds)
                    try:
                        came.append(await ctx.wait_signal(signal, timeout))
                    except SignalTimeoutError:
                        came.append("nobody")
                case First(seconds):
                    signals = [ctx.signal(signal, type=int) for signal in SIGNALS]
                    items: list[Awaited] = [*signals]
                    if seconds is not None:
                        items.append(ctx.timer(name, timedelta(seconds=seconds)))
                    won = await ctx.wait_any(*items)
                    came += [one.value for one in signals if one is won] or ["nobody"]
                case Patch(since, old, new):
                    is_new = journal.life >= since and ctx.patched(name)
                    taken, own = (new, f"{number}n") if is_new else (old, f"{number}o")
                    came.append(await follow(ctx, taken, f"{path}{own}.", f"{way}{own}."))
                case Branches(programs):
                    keys = [f"{way}{number}{'abc'[side]}" for side in range(len(programs))]
                    came.append(
                        await asyncio.gather(
                            *(
                                follow(ctx.branch(key), side, f"{path}{key}.")
                                for key, side in zip(keys, programs, strict=True)
                            )
                        )
                    )
        ctx.progress(len(program), len(program), path)
        return came

    @workflow(name="made up")
    async def body(ctx: WorkflowContext) -> list[Any]:
        return await follow(ctx, program, "")

    return body


def must_fail(program: Program) -> bool:
    """Whether some step fails for good, and nobody catches it."""
    return any(
        any(must_fail(side) for side in one.programs)
        if isinstance(one, Branches)
        else must_fail(one.old) and must_fail(one.new)
        if isinstance(one, Patch)
        else isinstance(one, Do) and one.failures == ALWAYS and not one.is_caught
        for one in program
    )


def may_fail(program: Program) -> bool:
    """Whether some step can, since an attempt that is cut off counts as one."""
    return any(
        any(may_fail(side) for side in one.programs)
        if isinstance(one, Branches)
        else may_fail(one.old) or may_fail(one.new)
        if isinstance(one, Patch)
        else isinstance(one, Do) and one.failures > 0 and not one.is_caught
        for one in program
    )


_dos = st.builds(
    Do,
    failures=st.sampled_from([0, 0, 0, 1, ALWAYS]),
    attempts=st.integers(1, 3),
    delay=st.integers(0, 5),
    is_caught=st.booleans(),
    is_undone=st.sampled_from([True, True, False]),
    undo_failures=st.sampled_from([0, 0, 0, 1, ALWAYS]),
    is_own=st.sampled_from([False, False, True]),
)
_waits = st.builds(
    Wait,
    signal=st.sampled_from(SIGNALS),
    timeout=st.one_of(st.none(), st.integers(1, 20)),
)
_firsts = st.builds(First, timeout=st.one_of(st.none(), st.integers(1, 20)))
_leaves = st.one_of(_dos, _dos, st.builds(Sleep, seconds=st.integers(1, 20)), _waits, _firsts)


def _programs(ops: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[Any]:
    return st.lists(ops, min_size=1, max_size=size).map(tuple)


_bodies = _programs(
    st.recursive(
        _leaves,
        lambda ops: st.one_of(
            st.builds(Branches, st.lists(_programs(ops, 3), min_size=1, max_size=3).map(tuple)),
            st.builds(Patch, st.integers(0, 3), _programs(ops, 3), _programs(ops, 3)),
        ),
        max_leaves=6,
    ),
    5,
)
# Many have something to undo, and a reason to.
programs: st.SearchStrategy[Program] = st.one_of(
    _bodies,
    st.tuples(_bodies, _programs(_dos, 3)).map(
        lambda parts: (*parts[0], *parts[1], Do(failures=ALWAYS))
    ),
)
