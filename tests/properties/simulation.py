"""Lives and deaths of a worker within this process, in a time that stands still.

The database is in memory and outlives the workers: what was committed stays, an open transaction
is rolled back. A worker dies where its process would, before or after one of its commits takes
effect: its event loop is left where it stands, and none of its code goes on. How fast the machine
is does not decide which writes share a commit, and so where a death falls.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    SqliteCheckpointStore,
    WorkflowDefinition,
)
from durable_workflow_sqlite.store import group_commit
from durable_workflow_sqlite.store.worker_lock import WorkerLock
from durable_workflow_sqlite.testing import ManualClock
from tests.oracle import FINAL, Life, Snapshot, look_through, violations
from tests.properties.programs import (
    SIGNALS,
    Journal,
    Program,
    definition,
    may_fail,
    must_fail,
    programs,
)

EXECUTION = "one"
BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
MOST_TIMES = 300
MOST_LIVES = 5
LOOK_AT_CLOCK_S = 0.0002
"""What passes between two looks of the store at the machine's clock."""


class Event(NamedTuple):
    """Something that the world does at a time: `what` is a signal, or "cancel"."""

    second: int
    what: str


class Crash(NamedTuple):
    """A death in a life: after how many percent of the commits that are left, and for how long."""

    percent: int
    is_before: bool
    seconds_dead: int


@dataclass(frozen=True)
class Schedule:
    """A workflow, and all that happens to it."""

    program: Program
    events: tuple[Event, ...] = ()
    crashes: tuple[Crash, ...] = ()
    ttl: int | None = None


class Died(KeyboardInterrupt):
    """Leaves an event loop at once, through everything."""


class MortalConnection(sqlite3.Connection):
    """Counts its commits, and lets its worker die at a commit."""

    fatal_commit: int | None = None
    is_before = False
    commits = 0
    is_dead = False

    def __del__(self) -> None:
        self.close()  # a world ends without a word

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.is_dead:
            raise Died
        if sql != "commit":
            return super().execute(sql, *parameters)
        self.commits += 1
        dies = self.commits == self.fatal_commit
        if dies and self.is_before:
            self.is_dead = True
            raise Died
        cursor = super().execute(sql, *parameters)
        if dies:
            self.is_dead = True
            raise Died
        return cursor

    def executemany(self, sql: str, *rows: Any) -> sqlite3.Cursor:
        if self.is_dead:
            raise Died
        return super().executemany(sql, *rows)


@functools.cache
def _migrated() -> sqlite3.Connection:
    """An empty database of the newest version."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    SqliteCheckpointStore(connection)
    return connection


@dataclass
class World:
    """What outlives the workers."""

    schedule: Schedule
    journal: Journal = field(default_factory=Journal)
    clock: ManualClock = field(default_factory=lambda: ManualClock(BEGINNING))
    lives: list[Life] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    started_in: int = MOST_LIVES

    def __post_init__(self) -> None:
        self.connection: Any = self.new_memory()
        self.definition: WorkflowDefinition[..., Any] = definition(
            self.schedule.program, self.journal
        )
        self.to_come = sorted(self.schedule.events)

    def new_memory(self) -> Any:
        """What the stores are opened on."""
        connection = sqlite3.connect(
            ":memory:", isolation_level=None, factory=MortalConnection, check_same_thread=False
        )
        _migrated().backup(connection)  # the migrations are killed elsewhere
        return connection

    def live(self, fatal_commit: int | None = None, is_before: bool = False) -> bool:
        """One life; whether the execution came to its end in it."""
        before = len(self.journal.lines)
        connection = self.connection
        connection.fatal_commit, connection.is_before = fatal_commit, is_before
        connection.commits = 0
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # of what dies with it
        life = loop.create_task(self._life())
        with pytest.MonkeyPatch.context() as patch:
            # Which writes share a commit is a matter of milliseconds, here of looks at the clock.
            looks = itertools.count()
            patch.setattr(group_commit, "monotonic", lambda: next(looks) * LOOK_AT_CLOCK_S)
            try:
                loop.run_until_complete(life)
                is_over = True
            except Died:
                is_over = False
            _bury(loop)
        self.clock = ManualClock(self.clock.now())  # nobody sleeps by it any more
        connection.is_dead = False
        if connection.in_transaction:
            connection.rollback()
        WorkerLock._alive_in_memory.clear()
        self.lives.append(Life(tuple(self.journal.lines[before:]), self.look()))
        return is_over

    def look(self) -> Snapshot:
        return look_through(self.connection, EXECUTION)

    def open_store(self) -> Any:
        return SqliteCheckpointStore(self.connection)

    async def _life(self) -> None:
        store = self.open_store()
        ttl = None if self.schedule.ttl is None else timedelta(seconds=self.schedule.ttl)
        engine = DurableEngine(store, workflows=[self.definition], clock=self.clock)
        async with store, engine:
            await engine.start(self.definition, execution_id=EXECUTION, ttl=ttl)
            self.started_in = min(self.started_in, len(self.lives))
            for _ in range(MOST_TIMES):
                await self._settle(engine)
                if self.look().status in FINAL:
                    return
                if not self._wait_for_what_comes_next():
                    await self._send_what_is_awaited(engine)
                while self.to_come and self._time_of(self.to_come[0]) <= self.clock.now():
                    await self._do(engine, self.to_come[0].what)
                    self.to_come.pop(0)
            self.problems.append("it never came to an end")

    async def _settle(self, engine: DurableEngine) -> None:
        """Let the engine do all that can be done at this time."""
        ready = asyncio.get_running_loop()._ready
        await asyncio.sleep(0)
        while ready:
            await asyncio.sleep(0)

    def _wait_for_what_comes_next(self) -> bool:
        """Move the clock; False if nothing is to come."""
        times = [self._time_of(event) for event in self.to_come[:1]]
        if self.clock.next_deadline is not None:
            times.append(self.clock.next_deadline)
        if times:
            self.clock.set(max(min(times), self.clock.now()))
        return bool(times)

    def _time_of(self, event: Event) -> datetime:
        return BEGINNING + timedelta(seconds=event.second)

    async def _send_what_is_awaited(self, engine: DurableEngine) -> None:
        """All is over but waits without a timeout: let them have their signals."""
        awaited = [
            step.step_name
            for step in self.look().forward()
            if step.kind == "SIGNAL" and step.status == "INTENT"
        ]
        if not awaited:
            self.problems = ["it waits for nothing"]
        for name in awaited:
            await self._do(engine, name)

    async def _do(self, engine: DurableEngine, what: str) -> None:
        """Do it, and again in the next life where this one ends before it is known."""
        try:
            if what != "cancel":
                number = len(self.acknowledged)
                await engine.send_signal(EXECUTION, what, number)
                self.acknowledged.append(f"signal {number}")
            elif await engine.cancel(EXECUTION):
                self.acknowledged.append("cancel")
        except DurableWorkflowError:
            if self.look().status not in FINAL:
                raise


def _bury(loop: asyncio.AbstractEventLoop) -> None:
    """End what is left of a worker: none of it can write, and nobody hears of it."""
    logging.disable()  # what it says in its grave
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine = task.get_coro()
        while coroutine is not None and coroutine.cr_frame is not None:
            with suppress(BaseException):  # it may wait for something else on its way out
                coroutine.close()
    logging.disable(logging.NOTSET)
    loop.close()


def broken_promises(schedule: Schedule, kind: type[World] = World) -> list[str]:
    """Live through a schedule, and say what did not hold."""
    undisturbed = kind(schedule)
    undisturbed.live()
    left = undisturbed.connection.commits
    world = kind(schedule)
    for crash in schedule.crashes:
        commit = 1 + max(left, 3) * crash.percent // 100
        left -= commit
        if world.live(commit, crash.is_before):
            break
        world.clock.set(world.clock.now() + timedelta(seconds=crash.seconds_dead))
    else:
        world.live()
    return [
        text
        for one in (undisturbed, world)
        for text in (*one.problems, *violations(one.lives), *_of_this_world(one))
    ]


def _of_this_world(world: World) -> list[str]:
    """What must hold beyond the promises that the oracle knows of, since the program is known."""
    end, schedule = world.lives[-1].after, world.schedule
    found: list[str] = []
    if any(life.after.status is None for life in world.lives[world.started_in :]):
        found.append("it was started, and is gone")
    payloads = {signal[2] for signal in end.signals if not signal[1].startswith("$")}
    found.extend(
        f"{one} was acknowledged, and is gone"
        for one in world.acknowledged
        if one.startswith("signal ") and one.removeprefix("signal ") not in payloads
    )
    if "cancel" in world.acknowledged and end.status != "CANCELLED":
        found.append(f"a cancel was acknowledged, and it ended {end.status}")
    may_be_stopped = schedule.ttl is not None or any(e.what == "cancel" for e in schedule.events)
    if not may_be_stopped:
        if must_fail(schedule.program) and end.status != "FAILED":
            found.append(f"it had to fail, and ended {end.status}")
        if not may_fail(schedule.program) and end.status != "COMPLETED":
            found.append(f"nothing fails in it, and it ended {end.status}: {end.error_type}")
    return found


_events = st.lists(
    st.builds(Event, st.integers(0, 60), st.sampled_from([*SIGNALS, *SIGNALS, *SIGNALS, "cancel"])),
    max_size=4,
).map(tuple)
_crashes = st.lists(
    st.builds(
        Crash,
        st.integers(0, 99),
        st.booleans(),
        st.sampled_from([0, 0, 3, 30]),
    ),
    min_size=1,
    max_size=MOST_LIVES - 1,
).map(tuple)

schedules: st.SearchStrategy[Schedule] = st.builds(
    Schedule,
    program=programs,
    events=_events,
    crashes=_crashes,
    ttl=st.one_of(st.none(), st.none(), st.none(), st.integers(1, 60)),
)
