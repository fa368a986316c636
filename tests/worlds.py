"""Simulated processes of a worker and their crashes, in a time that stands still.

The database is in memory and outlives the workers: what was committed stays, an open transaction
is rolled back. A worker dies where its process would, before or after one of its commits takes
effect, or wherever `World.dies` is called: its event loop is left where it stands, and none of its
code goes on. The event loop has a time and threads of its own, and so has each look of the store at
the machine's clock. How fast the machine is does not decide which writes share a commit, and so
where a crash falls: a world is the same each time that it is lived through.

Real processes are in `tests.processes`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import selectors
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, NoReturn

import pytest

from durable_workflow_sqlite import DurableEngine, DurableWorkflowError, SqliteCheckpointStore
from durable_workflow_sqlite.engine import threads
from durable_workflow_sqlite.store import group_commit
from durable_workflow_sqlite.store.in_memory import fill
from durable_workflow_sqlite.store.worker_lock import WorkerLock
from durable_workflow_sqlite.testing import ManualClock
from tests.oracle import FINAL, ProcessRun, Snapshot, look_through
from tests.processes import Harm, HarmedConnection

EXECUTION = "one"
BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
MOST_TIMES = 400
MOST_TURNS = 10_000

LOOKS_AGAIN_S = 0.2
"""In this time an engine has looked for what it may claim."""
"""Of the event loop in a process: what takes more goes in circles."""
LOOK_AT_CLOCK_S = 0.0002
"""What passes between two looks of the store at the machine's clock."""


class Event(NamedTuple):
    """Something that the world does at a time: a signal, or "cancel"; by another connection?"""

    second: int
    what: str
    by_another: bool = False


class Crash(NamedTuple):
    """The end of a process, after how many percent of what it would do, and the pause after it.

    at: "before" or "after" a commit; other worlds know of other moments.
    number: of the commit or whatever it is, instead of the percentage.
    """

    at: str
    percent: int
    seconds_down: int = 0
    number: int = 0


class Died(KeyboardInterrupt):
    """Leaves an event loop at once, through everything."""


class KillableConnection(HarmedConnection):
    """Lets its worker die at a commit, and refuses the dead."""

    is_dead = False

    def __del__(self) -> None:
        self.close()  # a world ends without a word

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self._check_alive()
        return super().execute(sql, *parameters)

    def executemany(self, sql: str, *rows: Any) -> sqlite3.Cursor:
        self._check_alive()
        return super().executemany(sql, *rows)

    def befall(self, harm: Harm | None = None) -> NoReturn:
        self.is_dead = True
        raise Died

    def _check_alive(self) -> None:
        if self.is_dead:
            raise Died


class _Patient(selectors.DefaultSelector):
    """Does not wait: where a loop would, its time goes on instead."""

    time = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout > 0:
            self.time += timeout
            timeout = 0
        return super().select(timeout)


class WorldLoop(asyncio.SelectorEventLoop):
    """An event loop with a time and with threads that are the same each time."""

    def __init__(self, chance: random.Random) -> None:
        self._patient = _Patient()
        super().__init__(self._patient)
        self._chance = chance
        self.turns = 0

    def time(self) -> float:
        return self._patient.time

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise Died
        run_once: Callable[[], None] = super()._run_once  # type: ignore[misc]
        run_once()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """In so many turns a thread takes it, and in so many it is done."""
        future = self.create_future()
        self._in_turns(self._chance.choice([0, 0, 1, 3]), self._take, future, func, args)
        return future

    def _in_turns(self, turns: int, callback: Callable[..., None], *args: Any) -> None:
        if turns == 0:
            self.call_soon(callback, *args, context=Context())
        else:
            self.call_soon(self._in_turns, turns - 1, callback, *args, context=Context())

    def _take(self, future: asyncio.Future[Any], func: Any, args: tuple[Any, ...]) -> None:
        try:
            result, error = func(*args), None
        except Exception as raised:
            result, error = None, raised
        self._in_turns(self._chance.choice([0, 0, 1, 3]), _settle, future, result, error)


class NoThread:
    """The thread that a `WorldLoop` leaves out: a real one would outlive its worker, and wait."""

    def __init__(self, *_: object) -> None:
        pass

    def end(self) -> None:
        pass


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in a loop whose time goes on when nothing else is to do, however slow the machine."""
    with asyncio.Runner(loop_factory=lambda: WorldLoop(random.Random(0))) as runner:
        runner.run(main())


class World:
    """What outlives the workers.

    lines: the journal of what was done outside of the database, over all processes.
    problems: what did not hold, beyond what the oracle sees.
    """

    finds_damage = True

    def __init__(self, events: tuple[Event, ...] = (), chance: int = 0) -> None:
        self.lines: list[str] = []
        self.processes: list[ProcessRun] = []
        self.problems: list[str] = []
        self.clock = ManualClock(BEGINNING)
        self.connection: Any = self.new_memory()
        self.to_come = sorted(events)
        self.chance = random.Random(chance)

    # What a world is of

    def new_memory(self) -> Any:
        """What the stores of all processes are opened on: it dies as a KillableConnection does."""
        connection = sqlite3.connect(
            ":memory:", isolation_level=None, factory=KillableConnection, check_same_thread=False
        )
        fill(connection)  # the migrations are killed elsewhere
        return connection

    def open_store(self) -> Any:
        return SqliteCheckpointStore(self.connection)

    async def _main(self) -> bool:
        """What the process does; whether the execution came to its end."""
        raise NotImplementedError

    async def _do(self, engine: DurableEngine, event: Event) -> None:
        raise NotImplementedError

    # Processes

    def note(self, line: str) -> int:
        """Add a line to the journal; return how often it stands there now."""
        self.lines.append(line)
        return self.lines.count(line)

    def look(self) -> Snapshot:
        return look_through(self.connection, EXECUTION, find_damage=self.finds_damage)

    def run_process(self, harm: Harm | None = None) -> bool:
        """One process, until that commit or to its end; whether the execution came to its own."""
        before = len(self.lines)
        connection = self.connection
        connection.harm, connection.commits = harm, 0
        loop = self._new_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # of what dies with it
        with self._patched():
            process = loop.create_task(self._main())
            try:
                is_over = loop.run_until_complete(process)
            except Died:
                is_over = False
                if isinstance(loop, WorldLoop) and loop.turns > MOST_TURNS:
                    self.problems.append("it never comes to rest")
            self._leave()
            _throw_away(loop)
        self.clock = ManualClock(self.clock.now())  # nobody sleeps by it any more
        connection.is_dead, connection.harm = False, None
        if connection.in_transaction:
            connection.rollback()
        WorkerLock._alive_in_memory.clear()
        self.processes.append(ProcessRun(tuple(self.lines[before:]), self.look()))
        return is_over

    def die(self) -> NoReturn:
        """End this process, here and now."""
        self.connection.befall()
        raise AssertionError("unreachable")

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        return WorldLoop(self.chance)

    @property
    def makes_threads_up(self) -> bool:
        """Whether its event loops run what a thread would."""
        return True

    def _leave(self) -> None:
        """A process has ended, and its tasks are about to be closed."""

    @contextmanager
    def _patched(self) -> Iterator[pytest.MonkeyPatch]:
        # Which writes share a commit is a matter of milliseconds, here of looks at the clock.
        looks = itertools.count()
        with pytest.MonkeyPatch.context() as patch, _in_silence():
            patch.setattr(group_commit, "monotonic", lambda: next(looks) * LOOK_AT_CLOCK_S)
            if self.makes_threads_up:
                patch.setattr(threads, "_Worker", NoThread)
            yield patch

    # Time

    async def _until_over(self, engine: DurableEngine) -> bool:
        """Let time pass, and the world act, until the execution is at its end, or this process."""
        for _ in range(MOST_TIMES):
            await self._until_quiet()
            if self._ends_early():
                return False
            if self.status() in FINAL:
                return True
            if not self._wait_for_what_comes_next():
                if await self._has_looked_again():
                    continue
                await self._send_what_is_awaited(engine)
            while self.to_come and self._time_of(self.to_come[0]) <= self.clock.now():
                # Again in the next process, where this one ends before it is known.
                await self._try(self._do(engine, self.to_come[0]))
                self.to_come.pop(0)
                await self._after_an_event()
        self.problems.append("it never came to an end")
        return False

    async def _has_looked_again(self) -> bool:
        """Whether something is to come once a worker has had the time that it leaves to others."""
        if not isinstance(asyncio.get_running_loop(), WorldLoop):
            return False
        before = self.look()
        await asyncio.sleep(LOOKS_AGAIN_S)  # on that loop it takes none
        await self._until_quiet()
        return self.look() != before or self._wait_for_what_comes_next()

    async def _until_quiet(self) -> None:
        """Let the engine do all that can be done at this time."""
        loop: Any = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while loop._ready:
            await asyncio.sleep(0)

    def _ends_early(self) -> bool:
        """Whether this process ends now, between two times."""
        return False

    async def _after_an_event(self) -> None:
        pass

    def status(self) -> str | None:
        row = self.connection.execute(
            "select status from workflow_executions where workflow_execution_id = ?", (EXECUTION,)
        ).fetchone()
        return None if row is None else str(row[0])

    def _wait_for_what_comes_next(self) -> bool:
        """Move the clock; False if nothing is to come."""
        times = [self._time_of(event) for event in self.to_come[:1]]
        if self.clock.next_deadline is not None:
            times.append(self.clock.next_deadline)
        times.extend(self._more_times())
        if times:
            self.clock.set(max(min(times), self.clock.now()))
        return bool(times)

    def _more_times(self) -> list[datetime]:
        return []

    def _time_of(self, event: Event) -> datetime:
        return BEGINNING + timedelta(seconds=event.second)

    async def _send_what_is_awaited(self, engine: DurableEngine) -> None:
        """All is over but waits without a timeout: let one have its signal."""
        awaited = [
            step.step_name
            for step in self.look().forward()
            if step.kind == "SIGNAL" and step.status == "INTENT"
        ]
        if not awaited:
            self.problems.append("it waits for nothing")
        for name in awaited[:1]:
            await self._try(self._do(engine, Event(0, name)))

    async def _try(self, work: Any) -> None:
        """Do what may come too late: the execution has ended meanwhile."""
        try:
            await work
        except DurableWorkflowError:
            if self.status() not in FINAL:
                raise


@contextmanager
def _in_silence() -> Iterator[None]:
    """What an engine says of crashes and failures is not for readers of the tests."""
    loggers = [
        logging.getLogger(name)
        for name in (
            "durable_workflow_sqlite",
            "durable_workflow_sqlite.engine",
            "durable_workflow_sqlite.store",
        )
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _throw_away(loop: asyncio.AbstractEventLoop) -> None:
    """End what is left of a worker: none of it can write, and nobody hears of it."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine: Any = task.get_coro()
        while coroutine is not None and coroutine.cr_frame is not None:
            with suppress(BaseException):  # it may wait for something else on its way out
                coroutine.close()
    loop.close()
