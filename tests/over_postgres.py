"""Runs the tests of the command line and of the dashboard over PostgreSQL, too.

A test gets its database from a fixture of `DATABASES`, which makes a file. Over PostgreSQL the rows
of that file are copied into a schema, and the fixture gives its URL. What a test does to the file
with sqlite3 is then done to the schema. A test that is about a file runs over SQLite alone.

A few of them run in `make test`, and the others in the campaigns.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, cast

import pytest

import postgres_server as server
from tests import postgres_server
from tests.postgres.copied import copy_rows
from tests.postgres.shell import Shell
from tests.sources import source_of

DATABASES: Final = frozenset({"file", "in_doubt", "outage", "shop", "stocks"})
OF_SQLITE: Final = frozenset({"shell"})
"""The fixtures of those that are about SQL by hand."""

_OF_A_FILE: Final = re.compile(
    r"\bfile\.\w|\.parent\b|\bPath\(file|new_database|SqliteCheckpointStore|pragma|sqlite_|rowid"
    r"|glob |strftime|\bcopy2?\(|chmod|backup|vacuum|tests\.cli\.conftest ENVIRONMENT|symlink"
)
"""What only a test does that is about a file, or about SQLite."""


def parametrize(
    metafunc: pytest.Metafunc, quick: Collection[str], left_out: Collection[str]
) -> None:
    """Let a test run over PostgreSQL, too, if it can.

    quick: the names of those that do so in `make test`. left_out: those that must not.
    """
    name = metafunc.function.__name__
    fixtures = set(metafunc.fixturenames)
    if not DATABASES & fixtures or "is_on" not in fixtures or OF_SQLITE & fixtures:
        return
    if name in left_out or _OF_A_FILE.search(source_of(metafunc.function)):
        return
    marks = () if name in quick else (pytest.mark.campaign,)
    over = ["sqlite", pytest.param("postgres", marks=marks)]
    metafunc.parametrize("is_on", over, indirect=True)


@pytest.fixture
def is_on(request: pytest.FixtureRequest) -> str:
    """sqlite, or postgres."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def placed(
    is_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], Path]]:
    """What a fixture gives for the file that it has made: the file, or the URL of a copy."""
    if is_on == "sqlite":
        yield lambda file: file
        return
    url_of_server, empty = template(postgres_server.url().removesuffix("postgres"))
    import psycopg

    connect = sqlite3.connect
    with ExitStack() as databases:

        def place(file: Path) -> Path:
            name = f"t_{uuid.uuid4().hex}"
            url = databases.enter_context(server.new_database(url_of_server, name, like=empty))
            with (
                closing(connect(file)) as connection,
                psycopg.connect(url, autocommit=True) as copy,
            ):
                copy_rows(connection, copy, "durable_workflow")
            return cast("Path", url)

        def connect_to(database: Any, *arguments: Any, **options: Any) -> Any:
            if not str(database).startswith("postgresql://"):
                return connect(database, *arguments, **options)
            return Shell(psycopg.connect(database, autocommit=True))

        monkeypatch.setattr(sqlite3, "connect", connect_to)
        yield place


@functools.cache
def template(url: str) -> tuple[str, str]:
    """A server, and a database of it with empty tables, of this process alone."""
    import psycopg

    from durable_workflow_sqlite.postgres.migrations import migrate

    name = f"template_{uuid.uuid4().hex}"
    with psycopg.connect(f"{url}postgres", autocommit=True) as connection:
        connection.execute(f'create database "{name}"'.encode())
    migrate(f"{url}{name}", schema="durable_workflow")
    return url, name
