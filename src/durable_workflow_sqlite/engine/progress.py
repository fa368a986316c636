"""What steps and workflow functions report of their progress: the newest waits here to be written.

It is not an event of the history. A replay reports again what was reported before: that is kept in
memory, and goes along where something is written anyway, so a row says what the replay says.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from contextlib import suppress
from typing import Final, Protocol
from weakref import ref

from durable_workflow_sqlite.engine.history import Place, RecordedHistory
from durable_workflow_sqlite.records import Progress, Record, WorkflowClaim, WorkflowExecution

EVERY_S: Final = 0.25
"""How often the progress of one execution is written at most."""


class Writer(Protocol):
    """A run of an execution, as far as what it tells while it runs needs it."""

    record: WorkflowExecution
    claim: WorkflowClaim
    history: RecordedHistory

    @property
    def trouble(self) -> BaseException | None: ...

    async def save(self, *records: Record) -> None: ...


class Reports:
    """The newest reports of one execution that are not written yet."""

    __slots__ = ("_is_due", "_loop", "_newest", "_run", "_writing", "_written_at", "is_over")

    def __init__(self, run: Writer, loop: asyncio.AbstractEventLoop) -> None:
        self._run = ref(run)
        self._loop = loop
        self._newest: dict[Place, Progress] = {}
        self._is_due = False
        self._writing: asyncio.Task[None] | None = None
        self._written_at = loop.time() - EVERY_S
        self.is_over = False
        """Whether the execution ends: what it still reports goes along with what ends it."""

    def add(self, report: Progress, *, is_due: bool = True) -> None:
        """Keep a report instead of the one before; also from a thread.

        is_due: whether it is written by itself; else it goes along with something else.
        """
        self._newest[report.branch, report.step_index] = report
        if is_due and not self._is_due:
            self._is_due = True
            if events._get_running_loop() is self._loop:
                self._set_timer()
            else:
                self._loop.call_soon_threadsafe(self._set_timer)

    def take(self) -> None:
        """The next write of the run takes along what is reported by now."""
        run = self._run()
        while self._newest:
            report = self._newest.popitem()[1]
            if run is not None and run.trouble is None:
                run.history.along.replace(report)

    def _set_timer(self) -> None:
        wait = self._written_at + EVERY_S - self._loop.time()
        self._loop.call_later(max(wait, 0), self._begin)

    def _begin(self) -> None:
        self._is_due = False
        run = self._run()
        self.take()
        if run is not None and self._is_wanted(run):
            self._written_at = self._loop.time()
            self._writing = self._loop.create_task(self._write(run))

    async def _write(self, run: Writer) -> None:
        if self._is_wanted(run):
            with suppress(Exception):  # it has stopped the run, which tells of it
                await run.save()

    def _is_wanted(self, run: Writer) -> bool:
        return bool(run.history.along.waiting) and run.trouble is None and not self.is_over
