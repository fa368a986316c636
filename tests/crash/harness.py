"""Real processes, each killed by SIGKILL before or after a chosen write to the store."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    PayloadCodec,
    WorkflowDefinition,
)
from tests.databases import new_database
from tests.oracle import ProcessRun, Snapshot, decoded, look
from tests.processes import Harm, Journal, open_harmed, run_process

EXECUTION, FORK = "one", "two"
ENDED, KILLED = "ended", "killed"


@dataclass(frozen=True)
class Scenario:
    """A workflow, and what the world does to it; `drive` is called again in every process."""

    name: str
    make: Callable[[Journal], WorkflowDefinition[..., Any]]
    drive: Callable[[DurableEngine, WorkflowDefinition[..., Any], Journal], Awaitable[None]]
    ends: tuple[str, ...] = ("COMPLETED",)
    engine: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of the engine."""
    codec: PayloadCodec | None = None
    forks: Mapping[str, str] = field(default_factory=dict[str, str])
    """The forks of the execution, and how each is to end; notes of each end in `in ID`."""


class World:
    """A folder that outlives the processes: the database, and the journal of side effects."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self.folder = folder
        self.scenario = scenario
        self.processes: list[ProcessRun] = []
        self.forks: dict[str, list[ProcessRun]] = {name: [] for name in scenario.forks}
        self.create()

    @property
    def file(self) -> Path:
        return self.folder / "workflows.db"

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "journal")

    def create(self) -> None:
        """Make the database, if it is not there."""
        if not self.file.exists():
            new_database(self.file)

    def open_store(self, harm: Harm | None) -> Any:
        """A store on the database, whose process is harmed as asked for."""
        return open_harmed(self.file, harm, codec=self.scenario.codec)

    def look_at(self, execution_id: str) -> Snapshot:
        return look(self.file, execution_id)

    def placed(self, folder: Path) -> World:
        """Another world in a copy of its folder."""
        return World(folder, self.scenario)

    def copy(self, folder: Path) -> World:
        """The same world, to go on differently."""
        shutil.copytree(self.folder, folder)
        other = self.placed(folder)
        other.processes = list(self.processes)
        other.forks = {name: list(runs) for name, runs in self.forks.items()}
        return other

    def run_process(self, harm: Harm | None = None) -> str:
        """One process; ENDED when the execution did, KILLED when it was killed."""
        before = len(self.journal.lines)
        was_killed = run_process(lambda: self._main(harm))
        lines = self.journal.lines[before:]
        own = tuple(one for one in lines if not any(one.endswith(_in(name)) for name in self.forks))
        self.processes.append(ProcessRun(own, self.look()))
        for name, runs in self.forks.items():
            of_fork = (line for line in lines if line.endswith(_in(name)))
            notes = tuple(line.removesuffix(_in(name)) for line in of_fork)
            runs.append(ProcessRun(notes, self.look_at(name)))
        return KILLED if was_killed else ENDED

    def look(self) -> Snapshot:
        found = self.look_at(EXECUTION)
        codec = self.scenario.codec
        return found if codec is None else decoded(found, EXECUTION, codec)

    async def _main(self, harm: Harm | None) -> None:
        definition = self.scenario.make(self.journal)
        store = self.open_store(harm)
        options = self.scenario.engine
        async with store, DurableEngine(store, workflows=[definition], **options) as engine:
            await self.scenario.drive(engine, definition, self.journal)


def _in(name: str) -> str:
    return f" in {name}"


async def run(
    engine: DurableEngine, definition: WorkflowDefinition[..., Any], journal: Journal
) -> None:
    """Start the execution, or attach to it, and wait for its end, whatever that is."""
    try:
        await engine.run(definition, execution_id=EXECUTION)
    except DurableWorkflowError:
        if not (await engine.load(EXECUTION)).status.is_terminal:
            raise
