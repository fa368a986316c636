"""Reads a file of sql/views: what the view is, the type and meaning of each column, its statement.

A file stands as

    -- workflow_blocked: the executions that workers leave alone.
    --
    -- workflow_execution_id  text       the execution
    -- workflow_type          text null  the name of its workflow

    drop view if exists workflow_blocked;

    create view workflow_blocked as
    select ...;
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import migration_folder
from query_files import SQL_TYPES, SqlType

_TITLE = re.compile(r"-- (\w+): (.+)")
_COLUMN = re.compile(rf"-- (\w+)  +({'|'.join(SQL_TYPES)})( null)?  +(\S.*)")
_MORE = re.compile(r"--( +)(\S.*)")


class ViewError(Exception):
    """All that must be changed in the files of the views."""


class ViewColumn(NamedTuple):
    line: int
    type: SqlType
    words: list[str]


class ViewFile(NamedTuple):
    path: Path
    name: str
    words: list[str]
    """What it is."""

    columns: dict[str, ViewColumn]
    statement: str
    statement_line: int


def read_view_files(folder: Path) -> dict[str, ViewFile]:
    """The views of a folder by name; raises `ViewError`."""
    try:
        views = migration_folder.read_views(folder)
    except migration_folder.MigrationFileError as error:
        raise ViewError(f"{folder}: {error}") from None
    return {view.name: _read(view.path, view.create) for view in views}


def _read(path: Path, create: str) -> ViewFile:
    lines = path.read_text(encoding="utf-8").splitlines()
    statement_line = lines.index(create.partition("\n")[0]) + 1
    title = _TITLE.fullmatch(lines[0])
    if title is None or title[1] != path.stem:
        raise ViewError(f"{path}:1: open it with `-- {path.stem}: what it is of`")
    words = [title[2]]
    columns: dict[str, ViewColumn] = {}
    last = words
    for number, line in enumerate(lines[1:], start=2):
        if not line.startswith("--"):
            break
        if found := _COLUMN.fullmatch(line):
            name, type_name, null, meaning = found.groups()
            if name in columns:
                raise ViewError(f"{path}:{number}: {name} stands here a second time")
            last = [meaning]
            columns[name] = ViewColumn(number, SqlType(type_name, nullable=bool(null)), last)
        elif more := _MORE.fullmatch(line):
            if columns and len(more[1]) == 1:
                raise ViewError(
                    f"{path}:{number}: write a column as `-- NAME  TYPE  MEANING`, with two spaces"
                    f" between; TYPE is one of {', '.join(SQL_TYPES)}, with ` null` after it where"
                    " it may be null"
                )
            last.append(more[2])
    return ViewFile(path, path.stem, words, columns, create, statement_line)
