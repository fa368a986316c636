"""`make profile`: where the microseconds of one step go.

    python -m benchmarks.hot_path [--rounds N] [--functions N] [--save FOLDER] [--no-page] [--tiny]

Twice, since a profiler tells only half. First the same steps are taken by one layer after another,
from plain sqlite3 up to the engine: what a layer adds to the one below is its cost, and nothing
disturbs it. Then cProfile looks into the engine's run, function by function: its times are too
long, and those of small functions most, but it names who to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sqlite3
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import floor
from benchmarks.ours import steps
from benchmarks.report import machine, number, table, write_section
from benchmarks.rounds import fresh_folder
from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepStatus,
    Workflow,
    WorkflowExecution,
)
from durable_workflow_sqlite.records import WorkflowClaim
from durable_workflow_sqlite.store.checkpointer import Checkpointer
from durable_workflow_sqlite.store.connection import open_connection
from durable_workflow_sqlite.store.group_commit import GroupCommit
from durable_workflow_sqlite.store.open_files import OpenFiles


class Load(NamedTuple):
    title: str
    executions: int
    steps: int

    @property
    def all_steps(self) -> int:
        return self.executions * self.steps


LOADS: Final = (
    Load("one execution", 1, 2_000),
    Load("100 at once", 100, 50),
)
_TINY: Final = (Load("one execution", 1, 5), Load("100 at once", 3, 2))


# The same steps by one layer after another; each gives the seconds that they took


def by_sqlite3(file: Path, load: Load) -> float:
    with _open(file) as connection:
        began = time.perf_counter()
        if load.executions == 1:
            floor.run_one(connection, load.steps)
        else:
            floor.run_many(connection, load.executions, load.steps)
        return time.perf_counter() - began


def by_group_commit(file: Path, load: Load) -> float:
    """One task an execution, and the floor's statements in transactions that GroupCommit makes."""
    with _open(file) as connection:
        connection.execute("begin immediate")
        started = [floor.start(connection) for _ in range(load.executions)]
        connection.execute("commit")
        files = OpenFiles(connection, str(file))
        commit = GroupCommit(
            connection,
            files=files,
            waits_for_disk=False,
            bound_to_thread=False,
            checkpointer=Checkpointer(files),
            is_intact=lambda: True,  # nothing is claimed here
        )

        async def write(statement: str, values: tuple[Any, ...]) -> None:
            await commit.write(lambda: connection.execute(statement, values), (statement, values))

        async def run(execution_id: str, token: int) -> None:
            for index in range(load.steps):
                await write(floor.INTENT, floor.intent_values(execution_id, index, token))
                output = str(index)
                await write(floor.OUTCOME, floor.outcome_values(execution_id, index, output, token))

        async def all_of_them() -> float:
            seconds = await _timed([run(*one) for one in started])
            await commit.close()
            return seconds

        return asyncio.run(all_of_them())


def by_store(file: Path, load: Load) -> float:
    """Records, their checks, and what the store makes of them."""

    async def run(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
        for index in range(load.steps):
            for status in (StepStatus.INTENT, StepStatus.COMPLETED):
                is_over = status is StepStatus.COMPLETED
                record = StepCheckpoint(
                    workflow_execution_id=claim.workflow_execution_id,
                    step_index=index,
                    step_name="step",
                    status=status,
                    output_data=str(index) if is_over else None,
                    started_at=now,
                    completed_at=now if is_over else None,
                )
                await store.save(record, claim=claim)

    async def all_of_them() -> float:
        workflow = Workflow(workflow_id="steps@1", workflow_type="steps")
        async with SqliteCheckpointStore.file(file) as store:
            claims: list[WorkflowClaim] = []
            for index in range(load.executions):
                execution = WorkflowExecution(
                    workflow_execution_id=f"execution-{index:026d}",
                    workflow_id=workflow.workflow_id,
                    status=ExecutionStatus.RUNNING,
                )
                claim = await store.create_execution(workflow, execution)
                assert claim is not None
                claims.append(claim)
            return await _timed([run(store, claim) for claim in claims])

    now = datetime.now(UTC)
    return asyncio.run(all_of_them())


def by_engine(file: Path, load: Load) -> float:
    """All of it: `ctx.step` in a workflow."""
    return asyncio.run(_by_engine(file, load))


async def _by_engine(file: Path, load: Load, profile: cProfile.Profile | None = None) -> float:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await engine.run(steps, min(50, load.steps))
        runs = [engine.run(steps, load.steps) for _ in range(load.executions)]
        if profile is not None:
            profile.enable()
        try:
            return await _timed(runs)
        finally:
            if profile is not None:
                profile.disable()


RUNGS: Final[dict[str, Callable[[Path, Load], float]]] = {
    "sqlite3: the raw floor": by_sqlite3,
    "group commit, and the event loop under it": by_group_commit,
    "store: records, their checks, their values": by_store,
    "engine: context, step, result to JSON, time": by_engine,
}


@contextmanager
def _open(file: Path) -> Generator[sqlite3.Connection]:
    with closing(open_connection(file)) as connection:
        floor.prepare(connection)
        yield connection


async def _timed(runs: Sequence[Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*runs)
    return time.perf_counter() - began


def ladder_table(loads: tuple[Load, ...], rounds: int) -> str:
    """What each layer adds to those below it, from the lowest time of each: the least disturbed."""
    took: dict[tuple[str, Load], list[float]] = {}
    for _ in range(rounds):
        for load in loads:
            for title, rung in RUNGS.items():
                with fresh_folder() as folder:
                    microseconds = 1e6 * rung(folder / "steps.db", load) / load.all_steps
                took.setdefault((title, load), []).append(microseconds)
    rows: list[list[str]] = []
    below = dict.fromkeys(loads, 0.0)
    for title in RUNGS:
        row = [title]
        for load in loads:
            up_to_here = min(took[title, load])
            row += [number(round(up_to_here - below[load], 1)), number(round(up_to_here, 1))]
            below[load] = up_to_here
        rows.append(row)
    head = ["microseconds a step"]
    for load in loads:
        head += [f"{load.title}: this layer", "up to it"]
    return table(head, rows)


# The same under cProfile

_Function = tuple[str, int, str]

_BY_BUILTIN: Final = (
    ("'sqlite3.", "sqlite3"),
    ("_asyncio.", "asyncio"),
    ("'select.epoll'", "asyncio"),
    ("msgspec", "records and JSON"),
    ("datetime.datetime", "time"),
)
_BY_FILE: Final = (
    ("/asyncio/", "asyncio"),
    ("/selectors.py", "asyncio"),
    ("/engine/clock.py", "time"),
    ("/engine/serialization.py", "records and JSON"),
    ("/engine/", "engine"),
    ("durable_workflow_sqlite/records.py", "records and JSON"),
    ("/store/rows.py", "records and JSON"),
    ("/store/statement_store.py", "store"),
    ("/store/group_commit.py", "group commit"),
    ("/store/checkpointer.py", "group commit"),
    ("/store/adapter.py", "typed queries"),
    ("/store/queries.py", "typed queries"),
    ("/aiosql/", "typed queries"),
    (".sql", "typed queries"),
    ("/benchmarks/", "the workflow itself"),
)


class Entry(NamedTuple):
    function: _Function
    calls: int
    own_s: float
    layer: str


def profile_tables(load: Load, functions: int, save: Path | None) -> str:
    profile = cProfile.Profile()
    with fresh_folder() as folder:
        seconds = asyncio.run(_by_engine(folder / "steps.db", load, profile))
    if save is not None:
        profile.dump_stats(save / f"{load.title.replace(' ', '-')}.pstats")
    entries = entries_of(pstats.Stats(profile))
    per_step = 1e6 / load.all_steps
    total = sum(entry.own_s for entry in entries)
    layers: dict[str, float] = {}
    for entry in entries:
        layers[entry.layer] = layers.get(entry.layer, 0.0) + entry.own_s
    rows = [
        (layer, number(round(own * per_step, 1)), f"{own / total:.0%}")
        for layer, own in sorted(layers.items(), key=lambda item: -item[1])
    ]
    worst = sorted(entries, key=lambda entry: -entry.own_s)[:functions]
    lines = [
        (
            _name(entry.function),
            entry.layer,
            number(round(entry.calls / load.all_steps, 2)),
            number(round(entry.own_s * per_step, 2)),
        )
        for entry in worst
    ]
    return "\n\n".join(
        (
            f"### Under cProfile: {load.title}, {load.steps:,} steps each",
            f"{number(seconds * per_step)} microseconds a step, of which the profiler saw"
            f" {number(total * per_step)}.",
            table(("layer", "microseconds a step", "share"), rows),
            table(("function", "layer", "calls a step", "own microseconds a step"), lines),
        )
    )


def entries_of(stats: pstats.Stats) -> list[Entry]:
    """Every function with its own time; a builtin's belongs to the layer that called it."""
    raw: dict[_Function, Any] = vars(stats)["stats"]
    entries: list[Entry] = []
    for function, (_, calls, own, _, callers) in raw.items():
        layer = _layer(function)
        if layer is not None or not callers:
            entries.append(Entry(function, calls, own, layer or "the rest of Python"))
            continue
        shares: dict[str, tuple[int, float]] = {}
        for caller, (_, its_calls, its_own, _) in callers.items():
            its_layer = _layer(caller) or "the rest of Python"
            before = shares.get(its_layer, (0, 0.0))
            shares[its_layer] = before[0] + its_calls, before[1] + its_own
        entries += [Entry(function, calls, own, layer) for layer, (calls, own) in shares.items()]
    return entries


def _layer(function: _Function) -> str | None:
    file, _, name = function
    where = _BY_BUILTIN if file == "~" else _BY_FILE
    subject = name if file == "~" else file
    for part, layer in where:
        if part in subject:
            return layer
    return None


def _name(function: _Function) -> str:
    """Without the place that the code lies in on this machine."""
    file, line, name = function
    if file == "~":
        return f"`{name.strip('<>')}`"
    return f"`{Path(file).name}:{line} {name.strip('<>')}`"


def main() -> None:
    parser = argparse.ArgumentParser(description="Show where the microseconds of one step go.")
    parser.add_argument("--rounds", type=int, default=10, help="how often each layer runs")
    parser.add_argument("--functions", type=int, default=20, help="how many are listed")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep what cProfile found")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    parser.add_argument("--tiny", action="store_true", help="as little as runs")
    arguments = parser.parse_args()
    loads = _TINY if arguments.tiny else LOADS
    text = "\n\n".join(
        (
            machine(),
            f"What each layer adds, from the lowest of {arguments.rounds} rounds:",
            ladder_table(loads, arguments.rounds),
            *(profile_tables(load, arguments.functions, arguments.save) for load in loads),
        )
    )
    print(text)
    if not arguments.no_page and not arguments.tiny:
        write_section("profile", text)


if __name__ == "__main__":
    main()
