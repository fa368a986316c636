"""What a power cut leaves of files: what was synced, and any part of what was not.

A disk keeps what was written before the last sync of its file. Of the writes since, it may have
done any, in any order, and each of them in part, by sectors. Since a later write to a sector may be
missing where an earlier one is there, leaving writes out covers any order of them. Entries of the
folder are done with its own sync: until then a new file may be missing, a deleted one still there.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.watched_files import Op

SECTOR = 512


class Recorder:
    """A watcher that keeps every change in order, with notes of what was promised between them."""

    def __init__(self) -> None:
        self.log: list[Op] = []
        self._lock = threading.Lock()

    def before(self, op: Op) -> None:
        """Everything succeeds."""

    def after(self, op: Op) -> None:
        self._add(op)

    def note(self, text: str) -> None:
        self._add(Op("note", text))

    def _add(self, op: Op) -> None:
        with self._lock:
            self.log.append(op)


@dataclass
class _Inode:
    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, Op]] = field(default_factory=list)
    syncs_folder: bool = False


class Disk:
    """The state of a disk after part of a log."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._inodes = [_Inode(bytearray(content)) for content in files.values()]
        self._entries: dict[str, int] = {name: n for n, name in enumerate(files)}
        self._synced_entries = dict(self._entries)
        self._unsynced_entries: list[tuple[str, int | None]] = []
        self._time = 0

    def do(self, op: Op) -> None:
        self._time += 1
        name = Path(op.file).name
        if op.kind == "open":
            if name not in self._entries:
                self._inodes.append(_Inode(syncs_folder=op.is_synced))
                self._enter(name, len(self._inodes) - 1)
            elif op.is_synced:
                self._inodes[self._entries[name]].syncs_folder = True
        elif op.kind == "delete":
            self._enter(name, None)
            if op.is_synced:
                self._sync_folder()
        elif op.kind in ("write", "truncate"):
            self._inodes[self._entries[name]].unsynced.append((self._time, op))
        elif op.kind == "sync":
            inode = self._inodes[self._entries[name]]
            for _, done in inode.unsynced:
                _apply(inode.synced, done)
            inode.unsynced.clear()
            if inode.syncs_folder:
                inode.syncs_folder = False
                self._sync_folder()

    def cut(self, fate: Fate, dice: random.Random) -> dict[str, bytes]:
        """The files that are there after a power cut, by their names."""
        writes = sorted(w for inode in self._inodes for w in inode.unsynced)
        chosen = dict(zip((time for time, _ in writes), fate(len(writes), dice), strict=True))
        entries = dict(self._synced_entries)
        for (name, number), keep in zip(
            self._unsynced_entries, fate(len(self._unsynced_entries), dice), strict=True
        ):
            if keep > 0:
                _set_entry(entries, name, number)
        files: dict[str, bytes] = {}
        for name, number in entries.items():
            inode = self._inodes[number]
            content = bytearray(inode.synced)
            for time, op in inode.unsynced:
                _apply_in_part(content, op, chosen[time], dice)
            files[name] = bytes(content)
        return files

    def _enter(self, name: str, number: int | None) -> None:
        _set_entry(self._entries, name, number)
        self._unsynced_entries.append((name, number))

    def _sync_folder(self) -> None:
        self._synced_entries = dict(self._entries)
        self._unsynced_entries.clear()


Fate = Callable[[int, random.Random], list[float]]
"""For each of so many unsynced writes in order: how much is done, 0 for none and 1 for all.

A negative share of it is done wrong: those sectors hold rubbish.
"""


def nothing(count: int, dice: random.Random) -> list[float]:
    return [0.0] * count


def all_of_it(count: int, dice: random.Random) -> list[float]:
    return [1.0] * count


def the_first(count: int, dice: random.Random) -> list[float]:
    """In order, up to some write that is torn."""
    kept = dice.randint(0, count)
    return [1.0 if n < kept else dice.random() if n == kept else 0.0 for n in range(count)]


def the_last(count: int, dice: random.Random) -> list[float]:
    """In the opposite order: the late ones, and not the early ones."""
    lost = dice.randint(0, count)
    return [1.0 if n >= lost else 0.0 for n in range(count)]


def any_of_it(count: int, dice: random.Random) -> list[float]:
    share = dice.choice((0.1, 0.5, 0.9))
    return [float(dice.random() < share) for _ in range(count)]


def torn(count: int, dice: random.Random) -> list[float]:
    """Each in part, or not, or whole."""
    return [dice.choice((0.0, dice.random(), 1.0)) for _ in range(count)]


def rubbish(count: int, dice: random.Random) -> list[float]:
    """Any of it; what is not done may hold something else altogether."""
    return [dice.choice((0.0, -dice.random(), 1.0)) for _ in range(count)]


FATES: tuple[Fate, ...] = (nothing, all_of_it, the_first, the_last, any_of_it, torn, rubbish)


def _set_entry(entries: dict[str, int], name: str, number: int | None) -> None:
    if number is None:
        entries.pop(name, None)
    else:
        entries[name] = number


def _apply(content: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        del content[op.offset :]
    else:
        _put(content, op.offset, op.data)


def _apply_in_part(content: bytearray, op: Op, share: float, dice: random.Random) -> None:
    if share == 1.0 or (op.kind == "truncate" and share > 0.0):
        _apply(content, op)
    elif share != 0.0 and op.kind == "write":
        for offset, piece in _sectors(op):
            if dice.random() < abs(share):
                _put(content, offset, piece if share > 0 else dice.randbytes(len(piece)))


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _sectors(op: Op) -> Iterator[tuple[int, bytes]]:
    start = op.offset
    end = op.offset + len(op.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, op.data[start - op.offset : stop - op.offset]
        start = stop


def materialise(files: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(content)
