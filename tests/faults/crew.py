"""Several worker processes on one database, some of which die or freeze, until all is done."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Clock,
    DurableEngine,
    DurableWorkflowError,
    ExecutionFinishedError,
    ExecutionHandle,
    ExecutionNotFoundError,
    StoreBusyError,
    StoreError,
    SystemClock,
    WorkflowDefinition,
    workflow,
)
from durable_workflow_sqlite.store import connection as store_connection
from durable_workflow_sqlite.store import group_commit
from tests.crash import scenarios
from tests.databases import new_database
from tests.oracle import DYING, Note, damage_of, look_through, violations_among_workers
from tests.processes import Child, Harm, Journal, open_harmed

HEAD_START_S = 0.03

MAKERS: dict[str, Callable[[Any], WorkflowDefinition[..., Any]]] = {
    "ten steps": scenarios.ten_steps,
    "retries": scenarios.retries,
    "own rows": scenarios.own_rows,
    "saga": scenarios.saga,
    "branches": scenarios.branches,
    "branches that fail": scenarios.branches_that_fail,
    "sleeps": scenarios.sleeps,
    "signals": scenarios.signals,
}


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


class SharedJournal(Journal):
    """The journal of one execution, each line with the worker that wrote it."""

    def __init__(self, path: Path, worker: str, action_s: float = 0.0) -> None:
        super().__init__(path)
        self._worker = worker
        self.action_s = action_s

    def note(self, what: str) -> int:
        super().note(f"{self._worker}|{what}")
        return self.lines.count(what)

    @property
    def lines(self) -> list[str]:
        return [note.line for note in self.notes]

    @property
    def notes(self) -> list[Note]:
        split = (line.partition("|") for line in super().lines)
        return [Note(worker, line) for worker, _, line in split]


@dataclass
class Worker:
    name: str
    child: Child


@dataclass
class Crew:
    """Workers on the file of a folder, and what became of them."""

    folder: Path
    size: int
    copies: int = 1
    """How many executions of each workflow there are."""
    action_s: float = 0.0
    busy_timeout_ms: int = store_connection.BUSY_TIMEOUT_MS
    may_be_busy: bool = False
    """Whether a frozen worker may hold the lock for longer than the others wait."""
    new_clock: Callable[[str], Clock] = field(default=lambda _: SystemClock())
    workers: list[Worker] = field(default_factory=list)
    born: int = 0
    killed: int = 0
    ended: int = 0

    def __post_init__(self) -> None:
        self.create()

    @property
    def file(self) -> Path:
        return self.folder / "workflows.db"

    def create(self) -> None:
        """Make the database, if it is not there."""
        if not self.file.exists():
            new_database(self.file)

    def open_store(self, harm: Harm | None, before_kill: Callable[[], object]) -> Any:
        """A store on the database, whose process is harmed as asked for."""
        return open_harmed(self.file, harm, before_kill)

    def look(self) -> AbstractContextManager[Any]:
        """What the oracle reads the database with."""
        return closing(sqlite3.connect(self.file))

    @property
    def tolerated(self) -> tuple[type[StoreError], ...]:
        """What whoever asks may hear of the store."""
        return (StoreBusyError,) if self.may_be_busy else ()

    @property
    def work(self) -> dict[str, str]:
        """The kind of workflow of each execution, by the execution's id."""
        return {f"{name} {n}": name for name in MAKERS for n in range(self.copies)}

    def journal(self, execution_id: str, worker: str) -> SharedJournal:
        return SharedJournal(self.folder / f"{execution_id}.journal", worker, self.action_s)

    def count_lines(self) -> int:
        """How much its workers have noted."""
        return sum(len(self.journal(one, "").lines) for one in self.work)

    def hire(self, harm: Harm | None = None) -> Worker:
        """Start a worker process."""
        self.born += 1
        name = f"worker {self.born}"
        worker = Worker(name, Child(lambda _: self._be_born(name, harm)))
        self.workers.append(worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """Kill a worker from outside, wherever it is."""
        self._note_exit(worker.name)
        os.kill(worker.child.pid, signal.SIGKILL)

    def wait_for_exit(self, seconds: float) -> Worker | None:
        """The next worker that has died, or finished; None if none does in that time."""
        with selectors.DefaultSelector() as selector:
            for worker in self.workers:
                selector.register(worker.child, selectors.EVENT_READ, worker)
            ready = selector.select(seconds)
        if not ready:
            return None
        worker: Worker = ready[0][0].data
        self.workers.remove(worker)
        if worker.child.is_killed_in_the_end():
            self.killed += 1
        else:
            self.ended += 1
        return worker

    def is_frozen(self, worker: Worker) -> bool:
        state = Path(f"/proc/{worker.child.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def dismiss(self) -> None:
        """End what is left, after a failure."""
        for worker in self.workers:
            worker.child.kill()
        self.workers.clear()

    def violations(self) -> list[str]:
        """Every broken promise, once all work is done."""
        with self.look() as opened:
            found = damage_of(opened)
            for execution_id in self.work:
                end = look_through(opened, execution_id, find_damage=False)
                notes = self.journal(execution_id, "").notes
                found += [
                    f"{execution_id}: {text}" for text in violations_among_workers(notes, end)
                ]
        locks = sorted(path.name for path in self.folder.glob("*-worker-*"))
        return found + ([f"lock files are left: {locks}"] if locks else [])

    def _note_exit(self, worker: str) -> None:
        for execution_id in self.work:
            self.journal(execution_id, worker).note(DYING)

    def _be_born(self, name: str, harm: Harm | None) -> None:
        store_connection.BUSY_TIMEOUT_MS = self.busy_timeout_ms  # type: ignore[misc]
        group_commit.BUSY_TIMEOUT_MS = self.busy_timeout_ms
        asyncio.run(self._main(name, harm))

    async def _main(self, name: str, harm: Harm | None) -> None:
        while True:
            try:
                store = self.open_store(harm, lambda: self._note_exit(name))
            except self.tolerated:
                continue
            else:
                break
        # One workflow for each execution, since a workflow writes to one journal.
        definitions = {
            execution_id: workflow(name=execution_id)(
                MAKERS[kind](self.journal(execution_id, name)).function
            )
            for execution_id, kind in self.work.items()
        }
        async with store, self._an_engine(store, definitions, name) as engine:
            await asyncio.gather(
                *(
                    self._see_through(engine, definition, execution_id, name, number)
                    for number, (execution_id, definition) in enumerate(definitions.items())
                )
            )

    @asynccontextmanager
    async def _an_engine(
        self,
        store: Any,
        definitions: dict[str, WorkflowDefinition[..., Any]],
        name: str,
    ) -> AsyncIterator[DurableEngine]:
        while True:
            engine = DurableEngine(
                store,
                workflows=definitions.values(),
                max_recoveries=1_000_000,
                clock=self.new_clock(name),
            )
            try:
                await engine.open()
            except self.tolerated:
                continue
            else:
                break
        try:
            yield engine
        finally:
            await engine.dispose()

    async def _see_through(
        self,
        engine: DurableEngine,
        definition: WorkflowDefinition[..., Any],
        execution_id: str,
        worker: str,
        number: int,
    ) -> None:
        if number % self.size != self.born % self.size:
            await asyncio.sleep(HEAD_START_S)  # of the others, so that each has work of its own
        await see_through(
            engine,
            definition,
            execution_id,
            self.journal(execution_id, worker),
            is_signalled=self.work[execution_id] == "signals",
            is_enqueued=number % 2 == 1,
            tolerated=self.tolerated,
        )


async def see_through(
    engine: DurableEngine,
    definition: WorkflowDefinition[..., Any],
    execution_id: str,
    journal: Any,
    *,
    is_signalled: bool,
    is_enqueued: bool,
    tolerated: tuple[type[StoreError], ...],
) -> None:
    """Start or enqueue an execution, or attach to it, and ask for its end until it has come.

    tolerated: the trouble with the store that whoever asks may hear of.
    """
    handle: ExecutionHandle[Any] | None = None
    while True:
        try:
            if handle is None:
                handle = await (
                    engine.enqueue(definition, execution_id=execution_id, delay=scenarios.A_MOMENT)
                    if is_enqueued
                    else engine.start(definition, execution_id=execution_id)
                )
            if is_signalled:
                await _send_signals(handle, journal)
            await handle.result()
        except StoreError as error:
            if not isinstance(error, tolerated):
                raise
        except DurableWorkflowError:
            pass
        try:
            if (status := (await engine.load(execution_id)).status).is_terminal:
                break
        except (*tolerated, ExecutionNotFoundError):
            pass
        await asyncio.sleep(0.005)
    journal.note(f"ended {status}")


async def _send_signals(handle: ExecutionHandle[Any], journal: Any) -> None:
    for number in range(3):
        if f"sent {number}" not in journal.lines:
            try:
                await handle.signal("go", number)
            except ExecutionFinishedError:
                return  # it has finished without
            journal.note(f"sent {number}")


def run_until_done(crew: Crew, next_harm: Callable[[], Harm | None], seconds: float) -> None:
    """Keep the crew at its size, harmed as asked for, until one of it has seen all work done."""
    give_up_at = time.monotonic() + seconds
    try:
        while crew.ended < crew.size:
            while len(crew.workers) + crew.ended < crew.size:
                crew.hire(next_harm())
            left = give_up_at - time.monotonic()
            assert left > 0, f"not done after {seconds} s; {crew.killed} were killed"
            crew.wait_for_exit(left)
    finally:
        crew.dismiss()
