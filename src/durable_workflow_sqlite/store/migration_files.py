"""The files of `sql/migrations` and `sql/views`: how they are named, and what stands in one.

This module needs nothing of the package. So the tools that write parts of the package read
the files by the same rules as the runner that applies them.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

_FILE_NAME: Final = re.compile(r"(\d{3})_\w+\.sql")
_FIRST_WORD: Final = re.compile(r"(?:\s|/\*.*?\*/|--[^\n]*\n)*(\w*)", re.DOTALL)
_OF_THE_RUNNER: Final = frozenset(
    {"begin", "commit", "end", "rollback", "savepoint", "release", "pragma"}
)

FIRST: Final = {
    "foreign_keys": "off",
    "legacy_alter_table": "on",
    "ignore_check_constraints": "on",
}
"""The pragmas that migrations run under, so that a table can be dropped and another take its name.

While foreign keys are enforced, a table that others refer to cannot be dropped. SQLite also
refuses to rename a table to a name that a view reads from, unless tables are renamed as before
version 3.25. Both are set outside of a transaction.
"""


class MigrationFileError(Exception):
    """A migration, or a folder of them, that must be changed before anything can be applied."""

    def __init__(self, message: str, version: int | None = None) -> None:
        super().__init__(message)
        self.version = version


class Statement(NamedTuple):
    """One statement of a migration, and the line of the file that it begins at."""

    line: int
    text: str


class Migration(NamedTuple):
    """One file of `sql/migrations`."""

    version: int
    path: Path

    @property
    def name(self) -> str:
        """Number and name, as in `001_create_tables`."""
        return self.path.stem

    def sql(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def statements(self) -> list[Statement]:
        """The file's statements, each ending at the end of a line; or MigrationFileError."""
        return _statements(self.path.name, self.sql(), self.version)


class View(NamedTuple):
    """One file of `sql/views`: it drops a view, and makes it."""

    name: str
    path: Path
    drop: str
    create: str

    @property
    def kept(self) -> str:
        """The text of the view as SQLite keeps it in `sqlite_schema`."""
        return self.create.replace("create view", "CREATE VIEW", 1).rstrip().removesuffix(";")


def read_migrations(directory: Path) -> list[Migration]:
    """The migrations of a folder, numbered from 1 without gaps. Raises MigrationFileError."""
    migrations: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        number = len(migrations) + 1
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or int(match[1]) != number:
            raise MigrationFileError(
                f"{path.name} should be migration {number:03}, named {number:03}_verb_noun.sql:"
                " numbers go from 001 without gaps or repeats"
            )
        migrations.append(Migration(number, path))
    if not migrations:
        raise MigrationFileError(f"{directory} holds no migrations; install the package again")
    return migrations


def read_views(directory: Path) -> list[View]:
    """The views of a folder, by name; or MigrationFileError."""
    views: list[View] = []
    for path in sorted(directory.glob("*.sql")):
        name = path.stem
        beginnings = (f"drop view if exists {name};", f"create view {name} as\n")
        sql = path.read_text(encoding="utf-8")
        texts = [statement.text for statement in _statements(path.name, sql)]
        if len(texts) != 2 or not all(map(str.startswith, texts, beginnings)):
            raise MigrationFileError(
                f"{path.name} should hold two statements: `{beginnings[0]}` and"
                f" `{beginnings[1].rstrip()} ...;`"
            )
        views.append(View(name, path, *texts))
    return views


def _statements(file: str, sql: str, version: int | None = None) -> list[Statement]:
    statements: list[Statement] = []
    text, first_line = "", 0
    for number, line in enumerate(sql.split("\n"), 1):
        if not text and (not line.strip() or line.lstrip().startswith("--")):
            continue
        first_line = first_line if text else number
        if _ends_early(text, line):
            raise _error(
                file, version, number, "holds more after a statement's end; begin a new line"
            )
        text += f"{line}\n"
        if ";" in line and sqlite3.complete_statement(text):
            found = _FIRST_WORD.match(text)
            if found and (word := found[1].lower()) in _OF_THE_RUNNER:
                raise _error(
                    file,
                    version,
                    first_line,
                    f"holds `{word}`; delete it: the whole file is one transaction, which begins"
                    " and ends, and sets what pragmas it needs, when it is applied",
                )
            statements.append(Statement(first_line, text))
            text = ""
    if text.strip():
        raise _error(file, version, first_line, "begins a statement that no semicolon ends")
    return statements


def _error(file: str, version: int | None, line: int, problem: str) -> MigrationFileError:
    return MigrationFileError(f"{file}, line {line}, {problem}", version)


def _ends_early(before: str, line: str) -> bool:
    """Whether more than a comment follows the first end of a statement in a line."""
    end = line.find(";")
    while end >= 0:
        if sqlite3.complete_statement(before + line[: end + 1]):
            rest = line[end + 1 :].strip()
            return bool(rest) and not rest.startswith("--")
        end = line.find(";", end + 1)
    return False
