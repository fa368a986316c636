"""`make bench-agents`: an agent of pydantic-ai in a workflow, and beside it the same with DBOS.

    python -m benchmarks.run_agents [--rounds N] [--tiny] [--no-page]

DBOS, with the integration that pydantic-ai has for it, is installed under .venv-peers/, beside the
same version of pydantic-ai as here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from math import isnan
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.peers import turns
from benchmarks.report import machine, middle_and_spread, number, table, write_section
from benchmarks.rounds import ROOT, Figure, Results, run_rounds
from benchmarks.run_peers import install, python_of

VENV: Final = "pydantic_ai"
SCRIPT: Final = ROOT / "benchmarks" / "peers" / "with_dbos_agent.py"
RUNS: Final = 20
TINY_RUNS: Final = 2

KINDS: Final = {"one": "one after another", "at_once": "all at once"}


class Pair(NamedTuple):
    ours: str
    """What is set for this library, and for DBOS."""

    theirs: str
    says: str


PAIRS: Final = (
    Pair("normal", "normal", "normal, both with a log"),
    Pair("full", "full", "full, both with a log"),
    Pair("full", "default", "full, DBOS as it comes: no log"),
)
GROUPS: Final = [
    [
        f"agents.{kind}_none",
        *dict.fromkeys(
            work
            for pair in PAIRS
            for work in (f"agents.{kind}_{pair.ours}", f"dbos.{kind}_{pair.theirs}")
        ),
    ]
    for kind in KINDS
]
RECOVERY: Final = [
    *dict.fromkeys(
        work
        for pair in PAIRS
        for work in (f"agents.recovery_{pair.ours}", f"dbos.recovery_{pair.theirs}")
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each work runs")
    parser.add_argument("--tiny", action="store_true", help="as little of each work as runs")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    arguments = parser.parse_args()
    about_here = machine()
    began = time.monotonic()
    install(VENV, [f"pydantic-ai-slim[dbos]=={version('pydantic-ai-slim')}"])
    runs = TINY_RUNS if arguments.tiny else RUNS
    results = run_rounds([*GROUPS, RECOVERY], arguments.rounds, commands=commands(runs))
    if any(
        count
        for (work, key), counts in results.items()
        if work.startswith("agents.") and key == "failed"
        for count in counts
    ):
        raise SystemExit("the agent of this library does not work here")
    text = "\n\n".join(
        (
            f"{about_here}\n- pydantic-ai {version('pydantic-ai-slim')}, DBOS {version_of_dbos()}",
            f"{runs} runs of {turns.TURNS} turns. Medians of {arguments.rounds} rounds, lowest to"
            " highest in brackets. Ratios are taken within each round: above 1, this library is"
            " faster, or writes less.",
            times_table(results),
            bytes_table(results),
            recovery_table(results, 5 * runs),
        )
    )
    print(text)
    if not arguments.no_page and not arguments.tiny:
        write_section("bench-agents", text)
    print(f"took {time.monotonic() - began:.0f} s")


def commands(runs: int) -> dict[str, list[str | Path]]:
    options: list[str | Path] = ["--runs", str(runs)]
    return {
        "agents": [sys.executable, "-m", "benchmarks.agent_turns", *options],
        "dbos": [python_of(VENV), SCRIPT, *options],
    }


def version_of_dbos() -> str:
    asks = "from importlib.metadata import version; print(version('dbos'))"
    asked = subprocess.run(
        [python_of(VENV), "-c", asks], stdout=subprocess.PIPE, text=True, check=True
    )
    return asked.stdout.strip()


def times_table(results: Results) -> str:
    head = ("ms a turn", "`synchronous`", "the agent alone", "this library", "DBOS", "ratio")
    rows: list[Sequence[str]] = []
    for kind, kind_says in KINDS.items():
        alone = results[Figure(f"agents.{kind}_none", "ms/turn")]
        for pair in PAIRS:
            ours = results[Figure(f"agents.{kind}_{pair.ours}", "ms/turn")]
            theirs = results[Figure(f"dbos.{kind}_{pair.theirs}", "ms/turn")]
            rounds = [one for one in zip(ours, theirs, strict=True) if not isnan(one[1])]
            rows.append(
                (
                    kind_says,
                    pair.says,
                    middle_and_spread(alone),
                    middle_and_spread(ours),
                    middle_and_spread([their for _, their in rounds]),
                    middle_and_spread([their / our for our, their in rounds]),
                )
            )
    return table(head, rows)


def bytes_table(results: Results) -> str:
    rows: list[Sequence[str]] = []
    for kind, kind_says in KINDS.items():
        ours = results[Figure(f"agents.{kind}_normal", "bytes/turn")]
        theirs = results[Figure(f"dbos.{kind}_normal", "bytes/turn")]
        rounds = [one for one in zip(ours, theirs, strict=True) if not isnan(one[1])]
        rows.append(
            (
                kind_says,
                number(median(ours)),
                number(median(their for _, their in rounds)) if rounds else "failed",
                middle_and_spread([their / our for our, their in rounds]),
            )
        )
    return table(("bytes a turn in the database", "this library", "DBOS", "ratio"), rows)


def recovery_table(results: Results, agents: int) -> str:
    head = (f"s, {agents} agents", "`synchronous`", "this library", "DBOS", "ratio")
    rows: list[Sequence[str]] = []
    for pair in PAIRS:
        ours = results[Figure(f"agents.recovery_{pair.ours}", "s")]
        theirs = results[Figure(f"dbos.recovery_{pair.theirs}", "s")]
        rounds = [one for one in zip(ours, theirs, strict=True) if not isnan(one[1])]
        rows.append(
            (
                "killed in their middle, and finished",
                pair.says,
                middle_and_spread(ours),
                middle_and_spread([their for _, their in rounds]),
                middle_and_spread([their / our for our, their in rounds]),
            )
        )
    return table(head, rows)


if __name__ == "__main__":
    main()
