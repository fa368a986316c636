"""`make bench-looking`: what the command line and the dashboard ask of a large file.

python -m benchmarks.looking [--no-page]

On the file of a million finished executions and five million checkpoints that `make bench` uses.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from html import unescape
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.dashboard_pages import SERVE, Dashboard
from benchmarks.report import machine, number, spread, table, write_section
from benchmarks.rounds import file_with_history
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.stores import open_reader

TIMES, PAGES, LIMIT_MS = 20, 1000, 200.0


def timed(ask: Callable[[], object], times: int = TIMES) -> list[float]:
    """Milliseconds, each time."""
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def measure(file: Path) -> str:
    rows: list[tuple[str, str, str, str]] = []

    def add(what: str, taken: list[float], *, is_judged: bool = True) -> None:
        met = "met" if median(taken) <= LIMIT_MS else "**not met**"
        met = met if is_judged else "start-up included"
        rows.append((what, f"{number(median(taken))} ms", spread(taken), met))
        print(*rows[-1], flush=True)

    with open_reader(file) as reader:
        page = reader.page()
        add("list, first page", timed(reader.page))
        filters: dict[str, Any]
        for name, filters in (
            ("status FAILED", {"statuses": ["FAILED"]}),
            ("one workflow", {"workflow_type": page.rows[0].workflow_type}),
            ("an id prefix", {"id_prefix": page.rows[0].id[:6]}),
        ):
            add(f"list, {name}", timed(partial(reader.page, Selection(**filters))))
        following: list[float] = []
        while page.next is not None and len(following) < PAGES:
            began = time.perf_counter()
            page = reader.page(after=page.next)
            following.append(1000 * (time.perf_counter() - began))
        add("list, pages 2 to 101", following[:100])
        add("list, pages 902 to 1001", following[-100:])
        one = page.rows[-1].id
        add("show", timed(lambda: reader.execution(one)))

        def status() -> object:
            overview = reader.overview(datetime.now(UTC))
            return overview, reader.workers(reader.counts())

        add(
            "status",
            timed(status, TIMES // 2),
        )
        add("workers", timed(reader.workers))
    # Compiled once, as pip leaves it, also where the environment forbids to write that down.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for command in (
        ["--help"],
        ["status", str(file)],
        ["list", str(file)],
        ["show", str(file), one],
    ):
        words = [sys.executable, "-m", "durable_workflow_sqlite", *command]
        run = partial(subprocess.run, words, check=True, capture_output=True, env=environment)
        what = f"`durable-workflow {command[0]}` as a whole process"
        add(what, timed(run, TIMES // 2), is_judged=False)
    _measure_pages(file, add)
    return table(("what", "median", "lowest to highest", "at most 200 ms"), rows)


def _measure_pages(file: Path, add: Callable[[str, list[float]], None]) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(file)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        dashboard = Dashboard(server.stdout.readline().strip())
        took, page = dashboard.ask("/")
        add("the dashboard's first page, the first time", [took])
        add("the dashboard's first page", [dashboard.ask("/")[0] for _ in range(TIMES)])
        taken: list[float] = []
        while len(taken) < PAGES and (older := re.search(r'rel="next" href="([^"]+)"', page)):
            took, page = dashboard.ask(unescape(older[1]))
            taken.append(took)
        add("the dashboard, pages 2 to 101", taken[:100])
        add("the dashboard, pages 902 to 1001", taken[-100:])
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time what people ask of a large file.")
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md alone")
    arguments = parser.parse_args()
    about = machine()
    text = f"{about}\n\n{measure(file_with_history())}"
    print(text)
    if not arguments.no_page:
        write_section("bench-looking", text)


if __name__ == "__main__":
    main()
