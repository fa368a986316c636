"""`make bench-peers`: other libraries that run durable workflows over SQLite, beside this one.

    python -m benchmarks.run_peers [--rounds N] [--tiny] [--no-page]

Each is installed in its newest version, in a virtual environment of its own under .venv-peers/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.report import (
    machine,
    middle_and_spread,
    number,
    table,
    targets_table,
    write_section,
)
from benchmarks.rounds import ROOT, Figure, Results, fresh_folder, run_rounds
from benchmarks.sizes import WHOLE
from benchmarks.targets import PEER_TARGETS

_VENVS: Final = ROOT / ".venv-peers"


class Counts(NamedTuple):
    steps: int
    at_once: int
    steps_each: int
    interrupted: int
    children: int = 0
    """0: it has none."""

    def __str__(self) -> str:
        return (
            f"{self.steps:,} steps; {self.at_once} of {self.steps_each};"
            f" {self.interrupted:,} interrupted"
            + (f"; {self.children:,} children" if self.children else "")
        )

    def as_options(self) -> list[str]:
        return [
            part
            for name, value in self._asdict().items()
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]


class Peer(NamedTuple):
    title: str
    venv: str
    packages: Sequence[str]
    counts: Counts
    """Smaller where it is slow: what is compared are rates."""

    options: Sequence[str] = ()

    @property
    def python(self) -> Path:
        return python_of(self.venv)


OURS: Final = Counts(
    WHOLE.steps, WHOLE.at_once, WHOLE.steps_each, WHOLE.interrupted, WHOLE.children
)
_DBOS_COUNTS: Final = Counts(1_000, 50, 50, 1_000, 500)
PEERS: Final = {
    "dbos": Peer("DBOS", "dbos", ("dbos",), _DBOS_COUNTS),
    "dbos_tuned": Peer("DBOS, tuned", "dbos", ("dbos",), _DBOS_COUNTS, ("--tuned",)),
    "edda": Peer("Edda", "edda", ("edda-framework",), Counts(200, 10, 20, 50)),
    "langgraph": Peer(
        "LangGraph",
        "langgraph",
        ("langgraph", "langgraph-checkpoint-sqlite"),
        Counts(1_000, 50, 50, 200),
    ),
}
_TINY: Final = Counts(5, 2, 2, 3, 2)
_WORKS: Final = {
    "sequential": "steps/s, one workflow",
    "idempotent": "the same, `idempotent=True`: one row a step, as the others write",
    "at_once": "steps/s, many at once",
    "recovery": "interrupted executions/s, recovered and finished",
    "children": "children/s, without steps, of one parent",
}
_RATES: Final = {"children": "children/s"}


def _does(side: str, work: str) -> bool:
    if work == "idempotent":
        return side == "ours"
    return work != "children" or side == "ours" or bool(PEERS[side].counts.children)


_GROUPS: Final = [
    [f"{side}.{work}" for side in ("ours", *PEERS) if _does(side, work)] for work in _WORKS
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure other libraries beside this one.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each work runs")
    parser.add_argument("--tiny", action="store_true", help="as little of each work as runs")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    arguments = parser.parse_args()
    about_here = machine()
    began = time.monotonic()
    for peer in PEERS.values():
        install(peer.venv, peer.packages)
    commands = {side: command_of(peer, tiny=arguments.tiny) for side, peer in PEERS.items()}
    about = {side: ask_about(command) for side, command in commands.items()}
    results = run_rounds(_GROUPS, arguments.rounds, commands=commands)
    text = "\n\n".join(
        (
            about_here,
            f"Medians of {arguments.rounds} rounds, lowest to highest in brackets."
            " Ratios are taken within each round.",
            targets_table(PEER_TARGETS, results),
            rates_table(results, tiny=arguments.tiny),
            "How many times as fast this library is:",
            ratios_table(results, tiny=arguments.tiny),
            "What each of them was, and what one step of it writes, as seen in its file:",
            about_table(about),
        )
    )
    print(text)
    if not arguments.no_page and not arguments.tiny:
        write_section("bench-peers", text)
    print(f"took {time.monotonic() - began:.0f} s")


def install(venv: str, packages: Sequence[str]) -> None:
    """The newest versions, with the Python that runs this."""
    python = python_of(venv)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_VENVS / venv)], check=True)
    pip = [str(python), "-m", "pip", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--upgrade", *packages], check=True)


def python_of(venv: str) -> Path:
    return _VENVS / venv / "bin" / "python"


def ask_about(command: Sequence[str | Path]) -> dict[str, Any]:
    with fresh_folder() as folder:
        asked = subprocess.run(
            [*command, "about", folder / "work.db"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    answer: dict[str, Any] = json.loads(asked.stdout.splitlines()[-1])
    return answer


def rates(results: Results, side: str, work: str, *, tiny: bool) -> list[float]:
    """Per second, so that different counts can be compared."""
    if work == "idempotent" and side != "ours":
        work = "sequential"  # it is one row a step already
    if work != "recovery":
        return results.get(Figure(f"{side}.{work}", _RATES.get(work, "steps/s")), [])
    counts = OURS if side == "ours" else _counts(PEERS[side], tiny=tiny)
    return [counts.interrupted / one for one in results[Figure(f"{side}.{work}", "s")]]


def rates_table(results: Results, *, tiny: bool) -> str:
    rows: list[list[str]] = []
    for work, title in _WORKS.items():
        row = [title]
        for side in ("ours", *PEERS):
            values = rates(results, side, work, tiny=tiny)
            failed = sum(results.get(Figure(f"{side}.{work}", "failed"), ()))
            and_failed = f"; {number(failed)} tries failed" if failed else ""
            told = middle_and_spread(_numbers(values)) if values else "-"
            row.append(told + and_failed)
        rows.append(row)
    counts = [str(OURS), *(str(_counts(peer, tiny=tiny)) for peer in PEERS.values())]
    return table(("", "this library", *_titles()), [*rows, ["counts", *counts]])


def ratios_table(results: Results, *, tiny: bool) -> str:
    rows: list[list[str]] = []
    for work, title in _WORKS.items():
        ours = rates(results, "ours", work, tiny=tiny)
        row = [title]
        for side in PEERS:
            theirs = rates(results, side, work, tiny=tiny)
            ratios = [one / other for one, other in zip(ours, theirs, strict=bool(theirs))]
            row.append(middle_and_spread(_numbers(ratios)) if ratios else "-")
        rows.append(row)
    return table(("", *_titles()), rows)


def about_table(about: Mapping[str, dict[str, Any]]) -> str:
    rows: list[list[str]] = []
    for side, found in about.items():
        written = ", ".join(f"{number(count)} in `{name}`" for name, count in found["rows"].items())
        pragmas = ", ".join(f"{name} = {value}" for name, value in found["pragmas"].items())
        rows.append(
            [
                PEERS[side].title,
                found["version"],
                pragmas,
                written,
                number(found["commits"]),
                f"{found['recorded']:.0%}",
            ]
        )
    head = ("", "version", "PRAGMAs", "rows a step", "commits a step", "recorded on return")
    return table(head, rows)


def _numbers(values: Sequence[float]) -> list[float]:
    return [value for value in values if not isnan(value)]


def _titles() -> list[str]:
    return [peer.title for peer in PEERS.values()]


def command_of(peer: Peer, *, tiny: bool) -> list[str | Path]:
    script = ROOT / "benchmarks" / "peers" / f"with_{peer.venv}.py"
    return [peer.python, script, *_counts(peer, tiny=tiny).as_options(), *peer.options]


def _counts(peer: Peer, *, tiny: bool) -> Counts:
    return _TINY if tiny else peer.counts


if __name__ == "__main__":
    main()
