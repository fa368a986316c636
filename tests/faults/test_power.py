"""The power is cut at every sync and between; what is left of the files must be whole.

A process runs workflows on files whose every write is recorded. Each moment of that record can then
be cut in many ways: the files that could be left are made, opened, checked, and a real engine
takes its workflows to their end.
"""

from __future__ import annotations

import asyncio
import pickle
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    DurableWorkflowError,
    SqliteCheckpointStore,
)
from durable_workflow_sqlite.store import checkpointer, connection
from tests.faults.crew import MAKERS
from tests.faults.power import FATES, Disk, Recorder, all_of_it, materialise, nothing
from tests.faults.reliability import FULL
from tests.faults.watched_files import Op, WatchedConnection, WatchedFiles
from tests.oracle import ProcessRun, damage_of, look_through, lost, violations
from tests.processes import run_process as run_in_a_process

FILE = "workflows.db"
ROUNDS = 8 if FULL else 1
CUTS = 1000 if FULL else 50
LOG_BYTES = 100_000
"""So that checkpoints and new logs come often."""

Note = Callable[[str], None]


@dataclass
class Journal:
    """What one execution did, as the scenarios note it; told to the recorder as well."""

    execution_id: str
    tell: Note
    lines: list[str] = field(default_factory=list)
    action_s: float = 0.0

    def note(self, what: str) -> int:
        self.lines.append(what)
        self.tell(f"{self.execution_id}|{what}")
        return self.lines.count(what)


async def main(
    store: SqliteCheckpointStore, journals: dict[str, Journal], ids: Iterable[str]
) -> None:
    """Start those executions, or go on with them, all at once, until each has ended."""
    makers = {name: maker(journals[name]) for name, maker in MAKERS.items()}
    async with store, DurableEngine(store, workflows=makers.values()) as engine:

        async def one(name: str) -> None:
            handle = await engine.start(makers[name], execution_id=name)
            journals[name].note("started")
            if name == "signals":
                for number in range(3):
                    try:
                        await handle.signal("go", number)
                    except DurableWorkflowError:
                        break  # it has ended
                    journals[name].note(f"sent {number}")
            with suppress(DurableWorkflowError):
                await handle.result()
            journals[name].note(f"ended {(await engine.load(name)).status}")

        await asyncio.gather(*(one(name) for name in ids))


def record(
    folder: Path, synchronous: Literal["normal", "full"], *, ignored: str = ""
) -> tuple[dict[str, bytes], list[Op]]:
    """The files in a folder, and all that a process then does to them; `ignored` kinds are lies."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    log = folder.with_name(f"{folder.name}.log")

    async def main() -> None:
        recorder = Recorder()
        await _recorded_run(folder / FILE, synchronous, recorder)
        log.write_bytes(pickle.dumps([tuple(op) for op in recorder.log]))

    assert not run_in_a_process(main)
    ops = [Op(*op) for op in pickle.loads(log.read_bytes())]
    return before, [op for op in ops if op.kind != ignored]


async def _recorded_run(
    file: Path, synchronous: Literal["normal", "full"], recorder: Recorder
) -> None:
    files = WatchedFiles("recorded", recorder)
    open_recorded: Any = lambda path, **_: WatchedConnection(  # noqa: E731
        str(path), "recorded", recorder
    )
    connection.LOG_BYTES = checkpointer.LOG_BYTES = LOG_BYTES  # type: ignore[misc]
    checkpointer.LOOK_EVERY = 4  # type: ignore[misc]
    # The library's own sync of the log goes past SQLite, and so past the recorder. It takes a real
    # disk's time, in which this short process would end: there would be few checkpoints to cut.
    checkpointer.SYNCS_BEFORE = 0  # type: ignore[misc]
    checkpointer.open_existing = open_recorded
    store = SqliteCheckpointStore(open_recorded(file), synchronous=synchronous)
    journals = {name: Journal(name, recorder.note) for name in MAKERS}
    await main(store, journals, MAKERS)
    store._connection.close()
    files.unregister()


@dataclass
class Cut:
    """What a power cut left, and what was promised before it."""

    files: dict[str, bytes]
    journals: dict[str, list[str]]
    acknowledged: list[tuple[str, str]]


def cuts(before: dict[str, bytes], log: list[Op], count: int, dice: random.Random) -> Iterator[Cut]:
    """So many moments: first before every sync, then after each, then any; each by some fate."""
    syncs = [n for n, op in enumerate(log) if op.kind == "sync"]
    moments = syncs + [n + 1 for n in syncs]
    if len(moments) > count * 3 // 4:
        moments = dice.sample(moments, count * 3 // 4)
    moments += [dice.randrange(len(log)) for _ in range(count - len(moments))]
    at = Counter(moments)
    disk = Disk(before)
    acknowledged: list[tuple[str, str]] = []
    journals: dict[str, list[str]] = {name: [] for name in MAKERS}
    for n, op in enumerate(log):
        for _ in range(at[n]):
            yield Cut(
                disk.cut(dice.choice(FATES), dice),
                {name: list(lines) for name, lines in journals.items()},
                list(acknowledged),
            )
        if op.kind == "note":
            name, _, line = op.file.partition("|")
            journals[name].append(line)
            acknowledged.append((name, line))
        else:
            disk.do(op)


def judge(cut: Cut, folder: Path, synchronous: str, counts: Counter[str]) -> list[str]:
    """Every broken promise; the executions are taken to their end on what is left."""
    materialise(cut.files, folder)
    forgets = synchronous == "normal"
    found: list[str] = []
    with closing(sqlite3.connect(folder / FILE)) as opened:
        found += damage_of(opened)
        after_cut = {name: look_through(opened, name, find_damage=False) for name in MAKERS}
    first = {
        name: ProcessRun(tuple(cut.journals[name]), after_cut[name], forgot=forgets)
        for name in MAKERS
    }
    steps_lost = sum(line.startswith("done ") for one in first.values() for line in lost(one))
    counts[f"committed steps lost under {synchronous}"] += steps_lost
    counts[f"cuts that lost a committed step under {synchronous}"] += bool(steps_lost)
    found += _holes(cut, first)
    there = [name for name in MAKERS if after_cut[name].status is not None]
    if not forgets:
        found += [
            f"{name} was started, and is gone"
            for name in MAKERS
            if "started" in cut.journals[name] and name not in there
        ]
        payloads = {signal[2] for signal in after_cut["signals"].signals}
        found += [
            f"{line!r} was acknowledged, and is gone"
            for line in cut.journals["signals"]
            if line.startswith("sent ") and line[5:] not in payloads
        ]
    journals = {
        name: Journal(name, lambda _: None, list(_as_far_as(first[name]))) for name in MAKERS
    }
    noted = {name: len(journals[name].lines) for name in MAKERS}
    store = SqliteCheckpointStore.file(folder / FILE)
    asyncio.run(asyncio.wait_for(main(store, journals, there), 30))
    with closing(sqlite3.connect(folder / FILE)) as opened:
        found += damage_of(opened)
        for name in there:
            end = look_through(opened, name, find_damage=False)
            second = ProcessRun(tuple(journals[name].lines[noted[name] :]), end)
            found += [f"{name}: {text}" for text in violations([first[name], second])]
    counts["executions recovered"] += len(there)
    return found


def _as_far_as(process: ProcessRun) -> Iterator[str]:
    """How often each step had run, as its own memory; failing actions count by it."""
    return (line for line in process.journal if line.startswith("run "))


def _holes(cut: Cut, first: dict[str, ProcessRun]) -> Iterator[str]:
    """Commits are lost from the end, if at all: what came before a commit that is kept is kept."""
    gone = {(name, line) for name, process in first.items() for line in lost(process)}
    kept_later = False
    for name, line in reversed(cut.acknowledged):
        if not line.startswith("done "):
            continue
        if (name, line) not in gone:
            kept_later = True
        elif kept_later:
            yield f"{name}: {line!r} is lost, though something acknowledged later is kept"


@pytest.mark.campaign
@pytest.mark.faults
@pytest.mark.parametrize(
    "synchronous", ["normal", pytest.param("full", marks=pytest.mark.campaign)]
)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_power_cut_corrupts_nothing_and_loses_nothing_under_full(
    tmp_path: Path, synchronous: Literal["normal", "full"], seed: int, counts: Counter[str]
) -> None:
    dice = random.Random(seed)
    world, ruin = tmp_path / "world", tmp_path / "ruin"
    world.mkdir()
    before, log = record(world, synchronous)
    counts["writes recorded"] += sum(op.kind == "write" for op in log)
    counts["syncs recorded"] += sum(op.kind == "sync" for op in log)
    assert sum(op.kind == "sync" and op.file.endswith(".db") for op in log) > 3, "no checkpoint"
    for number, cut in enumerate(cuts(before, log, CUTS, dice)):
        found = judge(cut, ruin, synchronous, counts)
        counts[f"power cuts under {synchronous}"] += 1
        assert not found, f"cut {number} of seed {seed}:\n" + "\n".join(found)
    if synchronous == "full":
        assert counts["committed steps lost under full"] == 0


@pytest.mark.faults
def test_a_disk_that_only_says_that_it_synced_is_found_out(
    tmp_path: Path, counts: Counter[str]
) -> None:
    """The campaign can fail: with syncs that do nothing, committed steps are lost under full."""
    (tmp_path / "world").mkdir()
    before, log = record(tmp_path / "world", "full", ignored="sync")
    disk = Disk(before)
    journals: dict[str, list[str]] = {name: [] for name in MAKERS}
    notes = [n for n, op in enumerate(log) if op.kind == "note"]
    for op in log[: notes[len(notes) // 2]]:
        if op.kind == "note":
            name, _, line = op.file.partition("|")
            journals[name].append(line)
        else:
            disk.do(op)
    whole, torn = (
        judge(
            Cut(disk.cut(fate, random.Random(0)), journals, []),
            tmp_path / "ruin",
            "full",
            Counter(),
        )
        for fate in (all_of_it, nothing)
    )
    assert whole == []
    assert any("was started, and is gone" in text for text in torn)
