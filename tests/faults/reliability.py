"""What the fault campaigns counted, in words, and in docs/reliability.md."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections import Counter
from pathlib import Path

FULL = os.environ.get("DURABLE_FAULTS") == "full"
"""Whether this is a full run: `make fault-power` and the like. Else each campaign takes seconds."""

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def campaign_of(nodeid: str) -> str | None:
    """The campaign of a test: `power` for those in tests/faults/test_power.py."""
    found = re.match(r"tests/faults/test_(\w+)\.py::", nodeid)
    return None if found is None else found[1].replace("_", "-")


def words_of(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in counts.items())


def publish(campaign: str, counts: Counter[str], seconds: float) -> None:
    """Put the counts of a full run between the markers of its campaign."""
    begin, end = f"<!-- counts: {campaign} -->", "<!-- end of counts -->"
    text = PAGE.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    if not found:
        raise ValueError(f"{PAGE} has no line {begin}")
    _, _, after = rest.partition(end)
    rows = "".join(f"| {what} | {number:,} |\n" for what, number in counts.items())
    python = ".".join(map(str, sys.version_info[:3]))
    table = (
        f"\n\n| what | count |\n|---|---|\n{rows}\n"
        f"{seconds / 60:.1f} minutes, Python {python}, SQLite {sqlite3.sqlite_version}.\n\n"
    )
    PAGE.write_text(f"{before}{begin}{table}{end}{after}", encoding="utf-8")
