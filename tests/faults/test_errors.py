"""Errors of the disk, of locks and of memory, at every operation of SQLite and of the disk.

The engine that meets them goes on by itself once they have passed: whoever asks hears of a
StoreError at most, and asks again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    StoreError,
    WorkflowContext,
    WorkflowDefinition,
    workflow,
)
from durable_workflow_sqlite.engine import changes, dispatcher, releasing, run, waits
from durable_workflow_sqlite.store import checkpointer, connection, group_commit
from tests.faults.crew import MAKERS, needs_linux, see_through
from tests.faults.reliability import FULL
from tests.faults.watched_files import Op, WatchedConnection, WatchedFiles
from tests.oracle import ProcessRun, damage_of, look_through, violations
from tests.processes import Child, Journal

FILES: Final = ("read", "write", "sync", "truncate", "open", "delete")


def io_error(op: Op) -> apsw.Error:
    error = apsw.IOError(f"disk I/O error at {op.kind}")
    error.extendedresult = {
        "read": apsw.SQLITE_IOERR_READ,
        "write": apsw.SQLITE_IOERR_WRITE,
        "sync": apsw.SQLITE_IOERR_FSYNC,
        "truncate": apsw.SQLITE_IOERR_TRUNCATE,
        "open": apsw.SQLITE_CANTOPEN,
        "delete": apsw.SQLITE_IOERR_DELETE,
    }.get(op.kind, apsw.SQLITE_IOERR)
    return error


KINDS: Final[dict[str, tuple[tuple[str, ...], Callable[[Op], apsw.Error]]]] = {
    "SQLITE_IOERR": (FILES, io_error),
    "SQLITE_FULL": (("write", "truncate"), lambda _: apsw.FullError("disk is full")),
    "SQLITE_READONLY": (("write",), lambda _: apsw.ReadOnlyError("read-only")),
    "SQLITE_BUSY": (
        ("lock", "begin", "commit", "rollback", "select", "pragma"),
        lambda _: apsw.BusyError("database is locked"),
    ),
    "SQLITE_NOMEM": (
        ("begin", "commit", "insert", "update", "select", "delete"),
        lambda _: apsw.NoMemError("out of memory"),
    ),
}
"""Which operations each error can come from, and the error."""


class Fault(NamedTuple):
    """An error at the n-th operation that it can come from, and at those right after it."""

    kind: str
    at: int
    length: int


class Faulty:
    """A watcher that lets operations fail."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._operations, self._error = KINDS[fault.kind]
        self.seen = 0
        self.failed = 0

    def before(self, op: Op) -> None:
        if op.kind in self._operations:
            self.seen += 1
            if self._fault.at <= self.seen < self._fault.at + self._fault.length:
                self.failed += 1
                raise self._error(op)

    def after(self, op: Op) -> None:
        """What has succeeded has."""


class Report(NamedTuple):
    seen: int
    failed: int
    heard: list[str]


def live_with(fault: Fault, folder: Path) -> tuple[Report, list[str]]:
    """What a process heard of a fault, and every promise that it broke."""
    report = Report(*_of_a_child(lambda: _main(fault, folder), folder, f"with {fault}"))
    with closing(sqlite3.connect(folder / "workflows.db")) as opened:
        found = damage_of(opened)
        for name in MAKERS:
            end = look_through(opened, name, find_damage=False)
            journal = tuple(Journal(folder / f"{name}.journal").lines)
            found += [f"{name}: {text}" for text in violations([ProcessRun(journal, end)])]
    return report, found


def _of_a_child(live: Callable[[], Coroutine[Any, Any, Any]], folder: Path, how: str) -> Any:
    """What comes of a process of its own."""
    folder.mkdir()
    child = Child(lambda say: say(json.dumps(asyncio.run(live()))))
    answer = child.hear()
    assert not child.is_killed_in_the_end(), f"{how} the process was killed"
    return json.loads(answer)


def _be_quick() -> None:
    """Try again soon, in a process of its own."""
    for room in (changes, dispatcher, releasing):
        room.TRY_AGAIN_AFTER_S = 0.02  # type: ignore[attr-defined]
    for module in (run, waits):
        module.SAVE_AGAIN_AFTER_S = 0.02  # type: ignore[attr-defined]


async def _main(fault: Fault, folder: Path) -> Report:
    connection.BUSY_TIMEOUT_MS = group_commit.BUSY_TIMEOUT_MS = 50  # type: ignore[misc]
    connection.LOG_BYTES = checkpointer.LOG_BYTES = 100_000  # type: ignore[misc]
    checkpointer.LOOK_EVERY = 4  # type: ignore[misc]
    _be_quick()
    watcher = Faulty(fault)
    files = WatchedFiles("faulty", watcher)
    opened: Any = lambda path, **_: WatchedConnection(str(path), "faulty", watcher)  # noqa: E731
    checkpointer.open_existing = opened
    file = folder / "workflows.db"
    definitions: dict[str, WorkflowDefinition[..., Any]] = {
        name: workflow(name=name)(maker(Journal(folder / f"{name}.journal")).function)
        for name, maker in MAKERS.items()
    }
    heard: Counter[str] = Counter()
    store = await _until_it_works(lambda: _open(opened, file), heard)
    async with store:
        engine = await _until_it_works(lambda: _begin(store, definitions), heard)
        try:
            await asyncio.gather(
                *(
                    see_through(
                        engine,
                        definition,
                        name,
                        Journal(folder / f"{name}.journal"),
                        is_signalled=name == "signals",
                        is_enqueued=number % 2 == 1,
                        tolerated=(StoreError,),
                    )
                    for number, (name, definition) in enumerate(definitions.items())
                )
            )
        finally:
            await engine.dispose()
    store._connection.close()
    files.unregister()
    return Report(watcher.seen, watcher.failed, sorted(heard))


async def _until_it_works(do: Any, heard: Counter[str]) -> Any:
    while True:
        try:
            return await do()
        except StoreError as error:
            heard[type(error).__name__] += 1
            await asyncio.sleep(0.01)


async def _open(opened: Any, file: Path) -> SqliteCheckpointStore:
    try:
        raw = opened(file)
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error  # as open_connection does it
    try:
        return SqliteCheckpointStore(raw)
    except BaseException:
        raw.close()
        raise


async def _begin(
    store: SqliteCheckpointStore, definitions: dict[str, WorkflowDefinition[..., Any]]
) -> DurableEngine:
    engine = DurableEngine(store, workflows=definitions.values())
    try:
        await engine.open()
    except BaseException:
        with suppress(StoreError):
            await engine.dispose()
        raise
    return engine


@pytest.mark.campaign
@pytest.mark.faults
@pytest.mark.parametrize(
    "kind",
    [
        one if one == "SQLITE_FULL" else pytest.param(one, marks=pytest.mark.campaign)
        for one in KINDS
    ],
)
def test_an_error_at_any_operation_fails_no_execution_and_passes(
    tmp_path: Path, kind: str, counts: Counter[str]
) -> None:
    dice = random.Random(int(os.environ["DURABLE_SEED"]))
    whole, found = live_with(Fault(kind, 0, 0), tmp_path / "whole")
    assert found == []
    assert whole.seen > 20
    points = (
        [(at, 1 if at % 3 else 5) for at in range(1, whole.seen + 20)]
        if FULL
        else [(dice.randint(1, whole.seen), dice.choice((1, 2, 5))) for _ in range(6)]
    )
    for number, (at, length) in enumerate(points):
        report, found = live_with(Fault(kind, at, length), tmp_path / str(number))
        assert not found, (
            f"{kind} at operation {at} of {whole.seen}, {length} times:\n" + "\n".join(found)
        )
        counts[f"processes with {kind}"] += bool(report.failed)
        counts["operations that failed"] += report.failed


A_LOT: Final = 20_000_000
"""Bytes of a result that is written to JSON, to a row and to the log: copies of it all the way."""


@pytest.mark.faults
@pytest.mark.campaign
@needs_linux
def test_a_limit_of_memory_fails_no_execution_and_passes(
    tmp_path: Path, counts: Counter[str]
) -> None:
    runs_in_want = 0
    for room in range(0, 200, 4) if FULL else (0, 24, 48, 72, 96, 144):
        folder = tmp_path / str(room)
        heard, kept = _of_a_child(
            lambda: _run_in_little_memory(folder, room << 20),  # noqa: B023
            folder,
            f"with room for {room} MB",
        )
        assert kept == [["hoard 0", "COMPLETED", A_LOT], ["hoard 1", "COMPLETED", A_LOT]]
        runs_in_want += bool(heard)
    assert runs_in_want, "there was memory enough for all of it"
    counts["processes in too little memory"] += runs_in_want


async def _run_in_little_memory(folder: Path, room: int) -> tuple[list[str], list[Any]]:
    """What was heard while memory was short, and the steps at the end, when it no longer is."""
    _be_quick()
    hoarded = "x" * (A_LOT - 2)  # without its quotes

    @workflow
    async def hoard(ctx: WorkflowContext) -> str:
        for number in range(2):
            await ctx.step(f"hoard {number}", give)
        return "done"

    async def give() -> str:
        return hoarded

    file = folder / "workflows.db"
    heard: Counter[str] = Counter()
    opened_store = SqliteCheckpointStore.file(file, max_payload_bytes=2 * A_LOT)
    async with opened_store as store, DurableEngine(store, [hoard]) as engine:
        # Stored before: with no memory at all, even that may be refused.
        handle = await engine.start(hoard, execution_id="one")
        resource.setrlimit(resource.RLIMIT_AS, (_memory_used() + room, resource.RLIM_INFINITY))
        for _ in range(5):
            try:
                await asyncio.wait_for(handle.result(), 0.2)
            except (StoreError, TimeoutError) as error:
                heard[type(error).__name__] += 1
                await asyncio.sleep(0.02)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await _until_it_works(handle.result, heard) == "done"
    with closing(sqlite3.connect(file)) as opened:
        kept = opened.execute(
            "select step_name, status, length(output_data) from step_checkpoints"
            " where status != 'INTENT' order by id"  # those are in doubt, and were tried again
        ).fetchall()
    return sorted(heard), kept


def _memory_used() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()
