"""Lives of real processes, each killed by SIGKILL before or after a chosen write to the store."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import shutil
import signal
import sqlite3
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    SqliteCheckpointStore,
    WorkflowDefinition,
)
from tests.lives import Journal, die
from tests.oracle import Life, Snapshot, look

EXECUTION = "one"
LIFE_LIMIT_S = 60
ENDED, KILLED = "ended", "killed"


class Kill(NamedTuple):
    """The death of a process: at which of its commits, and before or after it takes effect."""

    commit: int
    is_before: bool

    def __str__(self) -> str:
        return f"{'before' if self.is_before else 'after'} commit {self.commit}"


@dataclass(frozen=True)
class Scenario:
    """A workflow, and what the world does to it; `drive` is called again in every life."""

    name: str
    make: Callable[[Journal], WorkflowDefinition[..., Any]]
    drive: Callable[[DurableEngine, WorkflowDefinition[..., Any], Journal], Awaitable[None]]
    ends: tuple[str, ...] = ("COMPLETED",)
    engine: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of the engine."""


class DeadlyConnection(sqlite3.Connection):
    """Counts its commits, and kills its process at one of them."""

    kill: Kill | None = None
    commits = 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql != "commit":
            return super().execute(sql, *parameters)
        self.commits += 1
        if self.kill == (self.commits, True):
            die()
        cursor = super().execute(sql, *parameters)
        if self.kill == (self.commits, False):
            die()
        return cursor


class World:
    """A folder that outlives the processes: the database, and the journal of side effects."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self.folder = folder
        self.scenario = scenario
        self.lives: list[Life] = []

    @property
    def file(self) -> Path:
        return self.folder / "workflows.db"

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "journal")

    def copy(self, folder: Path) -> World:
        """The same world, to go on differently."""
        shutil.copytree(self.folder, folder)
        other = World(folder, self.scenario)
        other.lives = list(self.lives)
        return other

    def live(self, kill: Kill | None = None) -> str:
        """One life of a process; ENDED when the execution did, KILLED when it was killed."""
        before = len(self.journal.lines)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside idle threads
            child = os.fork()
        if child == 0:
            self._be_born(kill)
        _, status = os.waitpid(child, 0)
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert was_killed or os.waitstatus_to_exitcode(status) == 0, f"a life went wrong: {status}"
        self.lives.append(Life(tuple(self.journal.lines[before:]), self.look()))
        return KILLED if was_killed else ENDED

    def look(self) -> Snapshot:
        return look(self.file, EXECUTION)

    def _be_born(self, kill: Kill | None) -> None:
        # An alarm, and not faulthandler's own timer, whose thread is not there after a fork.
        faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)
        signal.alarm(LIFE_LIMIT_S)
        try:
            asyncio.run(self._life(kill))
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(70)
        os._exit(0)

    async def _life(self, kill: Kill | None) -> None:
        definition = self.scenario.make(self.journal)
        connection = sqlite3.connect(
            self.file, isolation_level=None, factory=DeadlyConnection, check_same_thread=False
        )
        store = SqliteCheckpointStore(connection)
        connection.kill, connection.commits = kill, 0  # the migrations are killed elsewhere
        options = self.scenario.engine
        async with store, DurableEngine(store, workflows=[definition], **options) as engine:
            await self.scenario.drive(engine, definition, self.journal)


async def run(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Start the execution, or attach to it, and wait for its end, whatever that is."""
    try:
        await engine.run(definition, execution_id=EXECUTION)
    except DurableWorkflowError:
        if not (await engine.load(EXECUTION)).status.is_terminal:
            raise
