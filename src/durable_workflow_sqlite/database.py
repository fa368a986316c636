"""Which database a command is about: FILE, `--db` or a variable of the environment.

One rule for all commands: where `--db` or the variable names the database, FILE is not given, and
all arguments are others. So what an argument means never depends on what it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "DURABLE_WORKFLOW_DB"

HELP: Final = f"the database, instead of FILE; {VARIABLE} names it for all commands"

_HEAD: Final = b"SQLite format 3\0"


def named(db: str | None) -> str | None:
    """The database that `--db` names, or else the variable; None if the first argument does.

    Raises ValueError for a name that is empty.
    """
    if db is not None:
        if not db:
            raise ValueError("--db is empty; give it the path of a database")
        return db
    return os.environ.get(VARIABLE) or None


def refuse_file(argument: str | None, db: str | None) -> None:
    """Refuse a first argument that is a database where another name is given: it is a mistake.

    It would be taken for an id, and the command would look at another file than was meant.
    """
    if argument is None or not _is_database(argument):
        return
    origin = "--db" if db is not None else VARIABLE
    raise ValueError(
        f"{origin} names the database ({named(db)}), so FILE is not given, and {argument!r} is a"
        f" database, too; leave it out, or give --db {argument} instead"
    )


def path_of(file: str | None, db: str | None) -> str:
    """The database of a command that takes no other arguments. Raises ValueError."""
    database = named(db)
    if database is None:
        if file is None:
            raise ValueError(NOT_NAMED)
        return file
    if file is not None:
        refuse_file(file, db)
        origin = "--db" if db is not None else VARIABLE
        raise ValueError(
            f"{origin} names the database ({database}), so {file!r} is one argument too many;"
            f" leave it out, or give --db {file} instead"
        )
    return database


NOT_NAMED: Final = f"no database is named; give FILE first, or --db FILE, or set {VARIABLE}"


def _is_database(argument: str) -> bool:
    try:
        with Path(argument).open("rb") as file:
            return file.read(len(_HEAD)) == _HEAD
    except (OSError, ValueError):
        return False
