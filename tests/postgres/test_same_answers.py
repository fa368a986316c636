"""Each query gives the same rows on both stores, over rows of every kind."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from msgspec.structs import asdict

from durable_workflow_sqlite.store.sql import load_queries
from query_files import Query
from seeded_database import SELECTS, WHOEVER, seeded_database
from tests import postgres_server
from tests.sql_files import QUERIES

if TYPE_CHECKING:
    from durable_workflow_sqlite.postgres.session import Session

ROOT = Path(__file__).parents[2]
VIEWS = sorted(path.stem for path in (ROOT / "sql/views").glob("*.sql"))
AGES = {"age_seconds", "due_age_seconds", "due_in_seconds", "held_seconds"} | {
    "queued_seconds",
    "running_seconds",
}
"""Columns that tell how long ago something was."""

IN_ANY_ORDER = {
    "load_edited",
    "load_gaps",
    "load_held_slots",
    "load_next_timers",
    "load_statuses",
    "load_steps_in_doubt",
    "load_stranded",
    "load_stray_signals",
    "load_summaries",
    "load_taken_over",
    "load_work_under_way",
    "match_rows",
}
"""They have no order, or several rows have the same place in it."""

OF_THE_DIALECT = {"load_schema_objects", "load_token_sequence"}
"""What they tell is of the database itself."""

FOR_SQLITE = {"load_suspect_executions", "load_suspect_checkpoints", "load_suspect_timers"} | {
    "load_suspect_signals"
}
"""They look for what PostgreSQL does not allow."""


class Both(NamedTuple):
    connection: sqlite3.Connection
    session: Session
    schema: str


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Generator[Both]:
    """A file with rows of every kind, and a schema with the same rows."""
    url = postgres_server.url()
    import psycopg

    from durable_workflow_sqlite.postgres.migrations import migrate
    from durable_workflow_sqlite.postgres.session import Session
    from tests.postgres.copied import copy_rows

    folder = tmp_path_factory.mktemp("seeded")
    schema = postgres_server.schema_of(folder)
    migrate(url, schema=schema)
    with seeded_database(folder) as connection:
        make_valid(connection)
        with psycopg.connect(url, autocommit=True) as server:
            copy_rows(connection, server, schema)
        with closing(Session(url)) as session:
            yield Both(connection, session, schema)


def make_valid(connection: sqlite3.Connection) -> None:
    """Undo what the tables of PostgreSQL refuse, and write the times as the library does."""
    connection.execute("update step_checkpoints set output_data = null where output_data = '?'")
    for column in ("started_at", "completed_at"):
        connection.execute(
            f"update step_checkpoints set {column} = null where {column} not glob '2*'"
        )
    for table, column in (
        ("workflow_executions", "created_at"),
        ("workflow_timers", "created_at"),
        ("workflow_signals", "created_at"),
        ("step_checkpoints", "started_at"),
    ):
        connection.execute(f"update {table} set {column} = replace({column}, ' ', 'T')")


@pytest.mark.parametrize(
    "query",
    [one for one in QUERIES if one.name in SELECTS and one.name not in OF_THE_DIALECT | FOR_SQLITE],
    ids=lambda query: query.name,
)
def test_a_query_gives_the_same_rows(both: Both, query: Query) -> None:
    from durable_workflow_sqlite.postgres.sql import load_queries as load_queries_of_postgres

    connection, session, schema = both
    theirs = load_queries()
    ours = load_queries_of_postgres(schema).shared
    (worker,) = theirs.load_claiming_workers(connection)
    for arguments in SELECTS[query.name]:
        given = {
            name: worker.worker_id if value is WHOEVER else value
            for name, value in arguments.items()
        }
        there = _rows(getattr(theirs, query.name)(connection, **given))
        here = _rows(getattr(ours, query.name)(session, **given))
        _compare(here, there, in_any_order=query.name in IN_ANY_ORDER)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_the_same_rows(both: Both, view: str) -> None:
    connection, session, _ = both
    found = connection.execute(f"select * from {view}")
    names = [name for name, *_ in found.description]
    there = [dict(zip(names, row, strict=True)) for row in found]
    of_server = session.execute(f"select * from {both.schema}.{view}")
    assert [column.name for column in of_server.description or ()] == names
    here = [dict(zip(names, row, strict=True)) for row in of_server]
    _compare(here, there, in_any_order=True)


def _compare(
    here: list[dict[str, Any]], there: list[dict[str, Any]], *, in_any_order: bool
) -> None:
    if in_any_order:
        here, there = sorted(here, key=_key), sorted(there, key=_key)
    assert len(here) == len(there)
    for mine, other in zip(here, there, strict=True):
        assert mine.keys() == other.keys()
        for name in mine:
            assert _are_equal(name, mine[name], other[name]), (name, mine, other)


def _key(row: dict[str, Any]) -> list[str]:
    return [
        str(int(value) if isinstance(value, bool) else value)
        for name, value in row.items()
        if name not in AGES
    ]


def _rows(found: Any) -> list[dict[str, Any]]:
    rows = found if isinstance(found, list) else [] if found is None else [found]
    return [asdict(row) if hasattr(row, "__struct_fields__") else {"value": row} for row in rows]


def _are_equal(name: str, mine: Any, other: Any) -> bool:
    if name in AGES and mine is not None and other is not None:
        return math.isclose(mine, other, abs_tol=60)
    return bool(mine == other)
