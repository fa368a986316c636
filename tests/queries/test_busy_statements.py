"""What the statements of each execution and each step make SQLite do: they are the busiest."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from durable_workflow_sqlite.store.in_memory import open_in_memory
from tests.sql_files import QUERIES

NAMED = {query.name: query for query in QUERIES}

BUSY = [
    "insert_execution_if_absent",
    "insert_claim",
    "take_from_queue",
    "take_execution",
    "load_execution",
    "load_checkpoints_after",
    "begin_step",
    "complete_step",
    "update_execution",
    "delete_claim_of",
    "load_pending",
]
CHANGE_THE_STATUS = ["take_from_queue", "update_execution"]

LONG_LIST = re.compile(r"in \(\s*'[^']*'\s*,\s*'[^']*'\s*,")
"""For `in` with three values or more, SQLite builds a table whenever it comes to it."""


@pytest.fixture
def empty() -> Iterator[sqlite3.Connection]:
    with closing(open_in_memory()) as connection:
        yield connection


def program(connection: sqlite3.Connection, name: str) -> list[tuple[object, ...]]:
    """The instructions of a query, without those of the triggers."""
    query = NAMED[name]
    rows = connection.execute(f"explain {query.statement}", dict.fromkeys(query.parameters))
    found: list[tuple[object, ...]] = []
    for row in rows:
        if row[0] == 0 and found:
            break
        found.append(row)
    return found


@pytest.mark.parametrize("name", BUSY)
def test_a_busy_statement_compares_values_one_by_one(name: str) -> None:
    assert not LONG_LIST.search(NAMED[name].statement)


def test_a_change_of_the_status_compares_values_one_by_one(empty: sqlite3.Connection) -> None:
    """Also in the conditions of the triggers and of the indexes that it always comes to."""
    found = empty.execute(
        "select name, type, sql from sqlite_schema where tbl_name = 'workflow_executions'"
        " and sql is not null"
    ).fetchall()
    triggers = {
        name: sql.split("\nbegin\n")[0]
        for name, kind, sql in found
        if kind == "trigger" and "update of status" in sql
    }
    assert len(triggers) == 3
    for name, head in triggers.items():
        assert not LONG_LIST.search(head), name
    # Those with a list ask first for what few executions have.
    rare = re.compile(
        r"where (dedup_id|schedule_name|trouble) is not null"
        r"|where guarantee = 'FOREGROUND_ONLY'"
    )
    for name, kind, sql in found:
        if kind == "index" and LONG_LIST.search(sql):
            assert rare.search(" ".join(sql.split())), name


@pytest.mark.parametrize("name", CHANGE_THE_STATUS)
def test_a_change_of_the_status_copies_no_input(empty: sqlite3.Connection, name: str) -> None:
    """SQLite copies the whole row before a change if a trigger names a column after the 32nd."""
    columns = [name for _, name, *_ in empty.execute("pragma table_info(workflow_executions)")]
    reads = [row[3] for row in program(empty, name) if row[1] == "Column" and row[2] == 0]
    assert reads.count(columns.index("input_data")) == 1
