"""Which database a command is about: FILE, `--db` or a variable of the environment.

It is the path of a file, or a URL. What names it in a command that people see has no password.

One rule for all commands: where `--db` or the variable names the database, FILE is not given, and
all arguments are others. So what an argument means never depends on what it is.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

from durable_workflow_sqlite import stores
from durable_workflow_sqlite.encryption import KEY_FILE_VARIABLE

VARIABLE: Final = "DURABLE_WORKFLOW_DB"

HELP: Final = f"the database, instead of FILE; {VARIABLE} names it for all commands"

KEYS_HELP: Final = f"the file of keys that decrypt its values, instead of {KEY_FILE_VARIABLE}"

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


def origin(db: str | None) -> str:
    """What names the database."""
    if db is not None:
        return "--db"
    return "the first argument" if named(None) is None else VARIABLE


def path_of(first: str | None, db: str | None, *, takes_others: bool = False) -> str:
    """The database of a command; `first` is its first argument.

    takes_others: whether the command has arguments beside FILE. If not, there may be none where
        the database is named otherwise. If so, a first one that is a database is refused: it would
        be taken for an id, and the command would act on another file than was meant.
    Raises ValueError.
    """
    database = named(db)
    if database is None:
        if first is None:
            raise ValueError(
                f"no database is named; give FILE first, or --db FILE, or set {VARIABLE}"
            )
        return _file_of(first)
    if first is not None and (not takes_others or _is_database(first)):
        raise ValueError(
            f"{origin(db)} names the database ({database}), so FILE is not given; leave out"
            f" {first!r}, or give --db {first}"
        )
    return _file_of(database)


def _file_of(name: str) -> str:
    """The file that a URL names, or a path, whatever it is, or a URL of PostgreSQL as it is.

    Raises ValueError.
    """
    if "://" not in name:
        return str(Path(name))
    if stores.address_of(name) is not None:
        return name
    file = stores.path_of(name)
    if file is None:
        raise ValueError(f"{name} is in memory, so no other process has it; give a file")
    return file


def command(name: str, file: str, *words: str) -> str:
    """A command as one may paste it into this shell, whatever the ids are.

    name: one word, or two, as "queue set".
    """
    db = [] if named(None) is None else ["--db"]
    return shlex.join(["durable-workflow", *name.split(), *db, stores.name_of(file), *words])


def _is_database(argument: str) -> bool:
    if "://" in argument:
        return True
    try:
        with Path(argument).open("rb") as file:
            return file.read(len(_HEAD)) == _HEAD
    except (OSError, ValueError):
        return False


def for_file(hint: str, file: str) -> str:
    """A hint whose commands name the file, as one may paste them."""
    db = "" if named(None) is None else "--db "
    return hint.replace(" FILE", f" {db}{shlex.quote(stores.name_of(file))}")
