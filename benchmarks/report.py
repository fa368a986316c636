"""Results as tables, with the machine they are from, in a section of docs/performance.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import floor
from benchmarks.rounds import FOLDER, ROOT, Results, fresh_folder
from benchmarks.targets import Target
from durable_workflow_sqlite.store.connection import open_connection

PAGE: Final = ROOT / "docs" / "performance.md"

_PRAGMAS: Final = (
    "journal_mode",
    "synchronous",
    "busy_timeout",
    "foreign_keys",
    "cache_size",
    "temp_store",
    "wal_autocheckpoint",
    "journal_size_limit",
    "page_size",
)


def targets_table(targets: Iterable[Target], results: Results) -> str:
    rows: list[Sequence[str]] = []
    for target in targets:
        values = target.values(results)
        if not values:
            rows.append((target.work, target.says, "failed", "", "**not measured**"))
            continue
        middle = median(values)
        met = "met" if target.is_met(middle) else "**not met**"
        unit = f" {target.unit}" if target.unit else ""
        rows.append((target.work, target.says, number(middle) + unit, spread(values), met))
    return table(("work", "target", "measured", "lowest to highest", ""), rows)


def figures_table(results: Results) -> str:
    rows = [
        (figure.work, figure.key, number(median(values)), spread(values), str(len(values)))
        for figure, values in results.items()
    ]
    return table(("work", "figure", "median", "lowest to highest", "runs"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Three digits that count, and more where there are more before the point."""
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2f}"


def middle_and_spread(values: Sequence[float]) -> str:
    return f"{number(median(values))} ({spread(values)})" if values else "failed"


def spread(values: Sequence[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}"


def machine() -> str:
    """What the figures are from; nothing that names a machine, a place on it, or a person."""
    libraries = (
        f"{name} {importlib.metadata.version(name)}"
        for name in ("durable-workflow-sqlite", "aiosql", "msgspec")
    )
    load, _, _ = os.getloadavg()
    return "\n".join(
        (
            f"- {datetime.now(UTC):%Y-%m-%d}; load when it began {load:.1f}",
            f"- {_processor()}, {os.cpu_count()} cores, {platform.system()},"
            f" file system {_file_system()}",
            f"- Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
            f"- {', '.join(libraries)}",
            f"- PRAGMAs: {_pragmas()}",
        )
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system() -> str:
    FOLDER.mkdir(exist_ok=True)
    asked = subprocess.run(
        ["df", "-T", str(FOLDER)], stdout=subprocess.PIPE, text=True, check=False
    )
    return asked.stdout.split()[-6] if asked.returncode == 0 else "unknown"


def _pragmas() -> str:
    with fresh_folder() as folder, closing(open_connection(folder / "pragmas.db")) as connection:
        floor.prepare(connection)
        values = [
            f"{name} = {connection.execute(f'pragma {name}').fetchone()[0]}" for name in _PRAGMAS
        ]
    return ", ".join(values)


def write_section(name: str, text: str) -> None:
    """Put a text between the marks of its section; the prose around them stays."""
    begin, end = f"<!-- measured by make {name} -->", f"<!-- end of make {name} -->"
    page = PAGE.read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"{PAGE.name} lacks the marks {begin} and {end}")
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
    print(f"\nwritten to docs/{PAGE.name}")
