"""Reads sql/lists.sql: the lists of values that a statement may write out, by column."""

from __future__ import annotations

import re
from pathlib import Path

_COLUMN = re.compile(r"-- (\w+)\.(\w+)")
_LIST = re.compile(r"-- (\w[\w ]*?)  +([A-Z][A-Z_]*(?:, [A-Z][A-Z_]*)+): \S.*")

Lists = dict[tuple[str, str], dict[str, tuple[str, ...]]]
"""By table and column: the values of each list, by its name."""


def read_lists(path: Path) -> Lists:
    """The lists of the file; none if there is no file."""
    lists: Lists = {}
    here: dict[str, tuple[str, ...]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if found := _COLUMN.fullmatch(line):
            here = lists.setdefault((found[1], found[2]), {})
        elif found := _LIST.fullmatch(line):
            here[found[1]] = tuple(found[2].split(", "))
    return lists
