"""Running works in rounds: each in a fresh process and file, and those to be compared in turn."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import big_file
from benchmarks.sizes import WHOLE
from durable_workflow_sqlite import SCHEMA_VERSION

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / ".bench"
"""Beside the code, and not where the system keeps what is temporary: that may be no disk."""

TRIES: Final = 3
ON_HISTORY: Final = " on history"
_OF_A_PEER: Final = ("steps/s", "children/s", "s", "ms/turn", "bytes/turn")
"""The keys of the figures that a work of another library may give."""


class Figure(NamedTuple):
    """One number that a work gives, as in `Figure("ours.sequential", "steps/s")`."""

    work: str
    key: str


Results = dict[Figure, list[float]]
"""What each round gave, in order: the values at one place are from the same round."""


def run_rounds(
    groups: Iterable[Sequence[str]],
    rounds: int,
    *,
    commands: Mapping[str, Sequence[str | Path]] | None = None,
    history: Path | None = None,
) -> Results:
    """Run every group in every round, its works one after another.

    commands: how to run the works of a side, WORK and FILE to be added; by default, the module of
        that name.
    """
    results: Results = {}
    groups = list(groups)
    for number in range(1, rounds + 1):
        for group in groups:
            for work in group:
                _say(f"round {number} of {rounds}: {work}")
                for key, value in run_work(work, commands or {}, history).items():
                    results.setdefault(Figure(work, key), []).append(value)
    _say("")
    return results


def run_work(
    work: str, commands: Mapping[str, Sequence[str | Path]], history: Path | None
) -> dict[str, float]:
    """Run one work. One of another library is tried again when it fails, and that is counted.

    What fails each time is no number, and does not end the run of all the others.
    """
    side, name = work.removesuffix(ON_HISTORY).split(".")
    command = commands.get(side, (sys.executable, "-m", f"benchmarks.{side}"))
    for failed in range(TRIES if side in commands else 1):
        with fresh_folder() as folder:
            file = folder / "work.db"
            if work.endswith(ON_HISTORY):
                assert history is not None
                file = history
            done = subprocess.run(
                [*command, name, file], cwd=ROOT, capture_output=True, text=True, check=False
            )
        if done.returncode == 0:
            figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
            return figures | {"failed": failed} if side in commands else figures
        why = [line for line in done.stderr.splitlines() if line and line[0] not in " ([{"]
        print(f"{work} failed: {why[-1] if why else done.returncode}"[:300], file=sys.stderr)
    if side in commands:
        return dict.fromkeys(_OF_A_PEER, nan) | {"failed": TRIES}
    raise SystemExit(f"{work} does not work here")


@contextmanager
def fresh_folder() -> Generator[Path]:
    """On the disk that is measured, and gone again afterwards."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        yield Path(folder)


def file_with_history() -> Path:
    """The file of a million finished executions: built once, and read once, so that it is warm."""
    executions, each = WHOLE.history, WHOLE.history_checkpoints_each
    file = FOLDER / f"history-{executions}x{each}-version-{SCHEMA_VERSION}.db"
    FOLDER.mkdir(exist_ok=True)
    if not file.exists():
        for other in FOLDER.glob("history-*"):
            other.unlink()
        print(f"building a file of {executions:,} finished executions ...", file=sys.stderr)
        big_file.build(file, executions, each)
    with file.open("rb") as reader:
        while reader.read(1 << 24):
            pass
    return file


def _say(what: str) -> None:
    """Where the run is, for whoever watches it."""
    if sys.stderr.isatty():
        print(f"\r{what:<60}", end="" if what else "\r", file=sys.stderr, flush=True)
