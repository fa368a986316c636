"""The files of `sql/migrations`: how they are numbered, and what stands in one.

This module needs nothing of the package. So the tools that write parts of the package read
migrations by the same rules as the runner that applies them.
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
        statements: list[Statement] = []
        text, first_line = "", 0
        for number, line in enumerate(self.sql().split("\n"), 1):
            if not text and (not line.strip() or line.lstrip().startswith("--")):
                continue
            first_line = first_line if text else number
            if _ends_early(text, line):
                raise self._error(number, "holds more after a statement's end; begin a new line")
            text += f"{line}\n"
            if sqlite3.complete_statement(text):
                self._refuse_what_the_runner_does(first_line, text)
                statements.append(Statement(first_line, text))
                text = ""
        if text.strip():
            raise self._error(first_line, "begins a statement that no semicolon ends")
        return statements

    def _refuse_what_the_runner_does(self, line: int, statement: str) -> None:
        found = _FIRST_WORD.match(statement)
        word = found[1].lower() if found else ""
        if word in _OF_THE_RUNNER:
            raise self._error(
                line,
                f"holds `{word}`; delete it: the whole file is one transaction, which begins and"
                " ends, and sets what pragmas it needs, when it is applied",
            )

    def _error(self, line: int, problem: str) -> MigrationFileError:
        return MigrationFileError(f"{self.path.name}, line {line}, {problem}", self.version)


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


def _ends_early(before: str, line: str) -> bool:
    """Whether more than a comment follows the first end of a statement in a line."""
    end = line.find(";")
    while end >= 0:
        if sqlite3.complete_statement(before + line[: end + 1]):
            rest = line[end + 1 :].strip()
            return bool(rest) and not rest.startswith("--")
        end = line.find(";", end + 1)
    return False
