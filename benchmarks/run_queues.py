"""`make bench-queues`: what queues, limits, maps and children cost, and DBOS's children beside.

    python -m benchmarks.run_queues [--rounds N] [--no-peers] [--no-page]

What differs in one thing is compared by the processor time of one process (`benchmarks.pairs`).
Children are a rate by the clock, so nothing else should run meanwhile, or this with precedence.
"""

from __future__ import annotations

import argparse
import time
from typing import Final

from benchmarks.report import (
    figures_table,
    machine,
    middle_and_spread,
    table,
    targets_table,
    write_section,
)
from benchmarks.rounds import Figure, Results, run_rounds
from benchmarks.run_peers import PEERS, ask_about, command_of, install
from benchmarks.sizes import WHOLE
from benchmarks.targets import Target

TARGETS: Final = (
    Target(
        "an enqueue into a queue with a limit against one into none",
        "at most 1.3 times",
        "at most",
        1.3,
        Figure("pairs.enqueue", "times"),
    ),
    Target(
        "a step under a limit against a free one",
        "at most 1.5 times",
        "at most",
        1.5,
        Figure("pairs.limited", "times"),
    ),
    Target(
        "a claim where 100,000 executions are queued against 1,000",
        "at most 1.2 times",
        "at most",
        1.2,
        Figure("pairs.claims", "times"),
    ),
    Target(
        "`ctx.map` of 10,000 steps against the same by hand",
        "at most 1.2 times",
        "at most",
        1.2,
        Figure("pairs.map_steps", "times"),
    ),
    Target(
        "10,000 children without steps, of one parent, by the clock",
        "at least 1,000 a second",
        "at least",
        1_000,
        Figure("ours.children", "children/s"),
    ),
)

_CHILDREN: Final = {"ours": "this library", "dbos": "DBOS", "dbos_tuned": "DBOS, tuned"}
GROUPS: Final = (
    ("pairs.enqueue",),
    ("pairs.limited",),
    ("pairs.claims",),
    ("pairs.map_steps",),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure queues, limits, maps and children.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each work runs")
    parser.add_argument("--no-peers", action="store_true", help="without DBOS beside")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    arguments = parser.parse_args()
    about, began = machine(), time.monotonic()
    peers = [] if arguments.no_peers else [one for one in _CHILDREN if one in PEERS]
    for side in peers:
        install(PEERS[side].venv, PEERS[side].packages)
    commands = {side: command_of(PEERS[side], tiny=False) for side in peers}
    children = [f"{side}.children" for side in ("ours", *peers)]
    results = run_rounds([*GROUPS, children], arguments.rounds, commands=commands)
    parts = [
        about,
        f"Medians of {arguments.rounds} rounds.",
        targets_table(TARGETS, results),
        "What they are made from, in microseconds of processor time for each:",
        figures_table({one: values for one, values in results.items() if one.key != "failed"}),
    ]
    if peers:
        version = ask_about(commands["dbos"])["version"]
        parts += [f"Children beside DBOS {version}, doing the same work:", beside(results, peers)]
    text = "\n\n".join(parts)
    print(text)
    if not arguments.no_page:
        write_section("bench-queues", text)
    print(f"took {time.monotonic() - began:.0f} s")


def beside(results: Results, peers: list[str]) -> str:
    """The rates, and how many times as fast this library is, round by round."""
    rates = {side: results[Figure(f"{side}.children", "children/s")] for side in ("ours", *peers)}
    counts = {"ours": WHOLE.children} | {side: PEERS[side].counts.children for side in peers}
    rows = [
        [
            _CHILDREN[side],
            f"{counts[side]:,}",
            middle_and_spread(values),
            middle_and_spread(
                [one / other for one, other in zip(rates["ours"], values, strict=True)]
            ),
        ]
        for side, values in rates.items()
    ]
    head = ("", "children", "children/s", "this library is so many times as fast")
    return table(head, rows)


if __name__ == "__main__":
    main()
