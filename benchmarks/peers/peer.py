"""What the works of every peer share: arguments, counts, and a look at what is in the file.

Each peer has a script of its own that runs in a virtual environment of its own, as in

    .venv-peers/dbos/bin/python benchmarks/peers/with_dbos.py WORK FILE [--steps N] ...
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

STEPS_BEFORE_THE_END, STEPS_IN_ALL = 5, 10
_WAL_HEADER, _FRAME_HEADER = 32, 24


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--steps-each", type=int, default=50)
    parser.add_argument("--interrupted", type=int, default=1000)
    parser.add_argument("--children", type=int, default=500)
    parser.add_argument("--tuned", action="store_true", help="WAL and synchronous NORMAL")
    return parser.parse_args()


def report(figures: dict[str, Any]) -> None:
    """Print, and leave at once: threads of a peer may go on for ever."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


def leave_interrupted(options: argparse.Namespace) -> None:
    """Run the same script with its work `interrupt`, which is to kill itself."""
    arguments = ["interrupt" if part == options.work else part for part in sys.argv]
    died = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=False)
    if died.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the process to be killed ended by itself: {died.returncode}")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_rows(file: Path, query: str, count: int) -> None:
    """Wait until a query counts so many, seen from outside."""
    give_up_at = time.monotonic() + 120
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
        while (found := connection.execute(query).fetchone()[0]) < count:
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"only {found} of {count} came to their end in 2 minutes")
            time.sleep(0.02)


def written_per_step(file: Path, run: Callable[[int], object]) -> dict[str, Any]:
    """What ten more steps add to the file, divided by ten: rows of each table, and commits."""
    run(10)
    before = rows(file), commits(file)
    run(10)
    between = rows(file), commits(file)
    run(20)
    after = rows(file), commits(file)

    def per_step(a: float, b: float, c: float) -> float:
        return ((c - b) - (b - a)) / 10

    found = {name: per_step(before[0][name], between[0][name], after[0][name]) for name in after[0]}
    return {
        "rows": {name: number for name, number in found.items() if number},
        "commits": per_step(before[1], between[1], after[1]),
    }


class Watch:
    """Whether the record of each step is in the file, for others to see, when the step returns."""

    def __init__(self, file: Path, table: str) -> None:
        self._file, self._table = file, table
        self._seen: list[int] = []

    def look(self) -> None:
        self._seen.append(rows(self._file)[self._table])

    @property
    def share(self) -> float:
        """Of the steps; the first look was before the first of them."""
        first, *later = self._seen
        there = (seen >= first + number for number, seen in enumerate(later, start=1))
        return sum(there) / len(later)


def rows(file: Path) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        names = connection.execute(
            "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
        ).fetchall()
        return {
            name: connection.execute(f'select count(*) from "{name}"').fetchone()[0]
            for (name,) in names
        }


def commits(file: Path) -> int:
    """Transactions that wrote: counted in the file's header, or in its log where it has one.

    The log tells only while it has not begun anew, that is for a few hundred of them.
    """
    header = file.read_bytes()[:100]
    log = Path(f"{file}-wal")
    if header[18] != 2:
        return int(struct.unpack(">I", header[24:28])[0])
    if not log.exists():
        return 0
    content = log.read_bytes()
    page_size = struct.unpack(">I", content[8:12])[0]
    salt = content[16:24]
    found = 0
    for at in range(_WAL_HEADER, len(content) - _FRAME_HEADER, _FRAME_HEADER + page_size):
        if content[at + 8 : at + 16] == salt:
            found += content[at + 4 : at + 8] != b"\0\0\0\0"
    return found
