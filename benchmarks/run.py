"""`make bench`: this library and the raw floor, and what must be reached.

python -m benchmarks.run [--rounds N] [--no-page]
"""

from __future__ import annotations

import argparse
import time

from benchmarks.report import figures_table, machine, targets_table, write_section
from benchmarks.rounds import file_with_history, run_rounds
from benchmarks.targets import GROUPS, TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this library against the raw floor.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each work runs")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    arguments = parser.parse_args()
    about = machine()
    began = time.monotonic()
    results = run_rounds(GROUPS, arguments.rounds, history=file_with_history())
    text = "\n\n".join(
        (
            about,
            f"Medians of {arguments.rounds} rounds. Ratios are taken within each round.",
            targets_table(TARGETS, results),
            "What they are made from:",
            figures_table(results),
        )
    )
    print(text)
    if not arguments.no_page:
        write_section("bench", text)
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
