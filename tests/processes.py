"""Real processes, and what befalls them: SIGKILL or SIGSTOP at a commit, or wherever.

`tests.worlds` simulates processes within the test's own.
"""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import os
import signal
import sqlite3
import sys
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    PayloadCodec,
    SqliteCheckpointStore,
    open_store,
)
from durable_workflow_sqlite.stores import Synchronous

PROCESS_LIMIT_S = 90


def die() -> NoReturn:
    """End this process as a power cut would, as far as a process can tell."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class Harm(NamedTuple):
    """What befalls a worker at one of its commits, before or after that takes effect."""

    commit: int
    is_before: bool
    kind: signal.Signals = signal.SIGKILL

    def __str__(self) -> str:
        return f"{'before' if self.is_before else 'after'} commit {self.commit}"


class HarmedConnection(sqlite3.Connection):
    """Counts its commits, and lets harm befall its process at one of them."""

    harm: Harm | None = None
    commits = 0
    before_kill: Callable[[], object] = staticmethod(lambda: None)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if not sql.startswith("commit"):
            return super().execute(sql, *parameters)
        self.commits += 1
        self._meet(is_before=True)
        cursor = super().execute(sql, *parameters)
        self._meet(is_before=False)
        return cursor

    def befall(self, harm: Harm) -> None:
        if harm.kind is signal.SIGKILL:
            self.before_kill()
        os.kill(os.getpid(), harm.kind)

    def _meet(self, *, is_before: bool) -> None:
        if self.harm is not None and self.harm[:2] == (self.commits, is_before):
            self.befall(self.harm)


def open_harmed(
    file: Path,
    harm: Harm | None,
    before_kill: Callable[[], object] = lambda: None,
    codec: PayloadCodec | None = None,
) -> SqliteCheckpointStore:
    """A store whose process is harmed at a commit; those of migrations are harmed elsewhere."""
    connection = sqlite3.connect(
        file, isolation_level=None, factory=HarmedConnection, check_same_thread=False
    )
    store = SqliteCheckpointStore(connection, codec=codec)
    connection.harm, connection.commits = harm, 0
    connection.before_kill = before_kill
    return store


@asynccontextmanager
async def an_engine(
    file: Path, *, synchronous: Synchronous = "normal", **settings: Any
) -> AsyncIterator[tuple[Any, DurableEngine]]:
    """A store on a file, or at a URL, and an engine over it."""
    async with (
        open_store(file, synchronous=synchronous) as store,
        DurableEngine(store, **settings) as engine,
    ):
        yield store, engine


def _end_with_what_it_waits_for(*_: object) -> NoReturn:
    """This process has lived for too long: print where each of its tasks is, and end it."""
    with suppress(RuntimeError):  # no event loop runs
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.__stderr__)
    os._exit(70)


class Child:
    """A forked process that runs `body(say)`: what it says can be heard, and it can be killed."""

    def __init__(self, body: Callable[[Callable[[str], None]], object]) -> None:
        hear, speak = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside idle threads
            self.pid = os.fork()
        if self.pid == 0:
            # An alarm, and not faulthandler's own timer, whose thread is not there after a fork.
            signal.signal(signal.SIGALRM, _end_with_what_it_waits_for)
            faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)
            signal.alarm(PROCESS_LIMIT_S)
            try:
                os.close(hear)
                body(lambda words: os.write(speak, f"{words}\n".encode()) and None)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(70)
        os.close(speak)
        self._hear = os.fdopen(hear)
        self._reaped = False

    def fileno(self) -> int:
        """Of what it says: ready to be read at the latest when it is dead."""
        return self._hear.fileno()

    def hear(self) -> str:
        """The next line that it says; '' if it died."""
        return self._hear.readline().strip()

    def is_killed_in_the_end(self) -> bool:
        """Wait until it is dead: by SIGKILL, or else because it has done all that it had to."""
        self._reaped = True
        _, status = os.waitpid(self.pid, 0)
        self._hear.close()
        is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert is_killed or status == 0, f"a process went wrong: {status}"
        return is_killed

    def kill(self) -> None:
        """End it by SIGKILL, unless it is dead."""
        if not self._reaped:
            self._reaped = True
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._hear.close()


@contextmanager
def a_process(body: Callable[[Callable[[str], None]], None]) -> Iterator[Child]:
    """Runs `body(say)` in a process of its own, which dies at the latest at the end."""
    child = Child(body)
    try:
        yield child
    finally:
        child.kill()


def run_process(body: Callable[[], Coroutine[Any, Any, object]]) -> bool:
    """Run a coroutine in a process of its own; whether that was killed over it."""
    return Child(lambda _: asyncio.run(body())).is_killed_in_the_end()


def run_until_killed(body: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run a coroutine in a process of its own that kills itself with SIGKILL in the middle."""
    assert run_process(body), "it did not die"


class Journal:
    """A log of side effects that outlives the process that wrote it.

    action_s: how long an action takes that notes what it does here.
    """

    action_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, what: str) -> int:
        """Add a line; return how often it stands there now."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, f"{what}\n".encode())
        finally:
            os.close(file)
        return self.lines.count(what)

    @property
    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


async def until(is_so: Callable[[], Any]) -> None:
    """Wait for what must happen: that a function, async or not, gives something true."""
    async with asyncio.timeout(60):
        while not (await found if inspect.isawaitable(found := is_so()) else found):
            await asyncio.sleep(0.005)


async def until_over(engine: DurableEngine, *ids: str) -> list[ExecutionStatus]:
    """The final statuses of executions that may run anywhere."""
    async with asyncio.timeout(30):
        states = [[state async for state in engine.observe(one)][-1] for one in ids]
    return [state.status for state in states]
