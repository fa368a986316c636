"""What people see of a file must be what is there, page by page."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benchmarks.big_file import build

from durable_workflow_sqlite import (
    ExecutionStatus,
    MigrationError,
    SchemaTooNewError,
    StoreError,
    migrate,
)
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.selection import InputFilter, Selection
from durable_workflow_sqlite.store import picking
from durable_workflow_sqlite.store.cursor import Cursor
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.stores import open_reader

MIDDLE = datetime(2025, 1, 1, 4, tzinfo=UTC)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
COUNT = 1000


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand finished executions, and one of a status that somebody invented."""
    file = tmp_path_factory.mktemp("history") / "history.db"
    build(file, COUNT, 5)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute("update workflow_executions set status = 'LOST' where rowid = 7")
    return file


@pytest.fixture
def reader(history: Path) -> Iterator[Reader]:
    with open_reader(history) as opened:
        yield opened


FILTERS: list[dict[str, Any]] = [
    dict(itertools.chain(*(one.items() for one in some)))
    for some in itertools.product(
        [{}, {"statuses": ["FAILED", "LOST"]}],
        [{}, {"workflow_types": ["order"]}, {"workflow_types": ["order", "none"]}],
        [{}, {"id_prefix": "0"}, {"id_prefix": "zz"}],
        [{}, {"created_before": MIDDLE}, {"created_after": MIDDLE}],
    )
]


def ids_by_page(reader: Reader, selection: Selection) -> Iterator[str]:
    """What all pages have, one after the other; each but the last is full."""
    after, is_last = None, False
    while not is_last:
        page = reader.page(selection, after=after, limit=77)
        yield from (row.id for row in page.rows)
        after, is_last = page.next, page.next is None
        assert is_last or len(page.rows) == 77


@pytest.mark.parametrize("few", [0, 20_000], ids=["by walking", "by id"])
def test_the_pages_together_are_what_one_query_gives(
    history: Path, reader: Reader, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "_FEW", few)
    with closing(sqlite3.connect(history)) as connection:
        rows = connection.execute(
            "select workflow_execution_id, status, workflow_type, e.created_at"
            " from workflow_executions as e join workflows using (workflow_id)"
            " order by e.created_at desc, e.rowid desc"
        ).fetchall()
    for filters in FILTERS:
        wanted = [
            one
            for one, status, name, created_at in rows
            if status in filters.get("statuses", [status])
            and name in filters.get("workflow_types", [name])
            and one.startswith(filters.get("id_prefix", ""))
            and created_at < filters.get("created_before", LAST).isoformat()
            and created_at >= filters.get("created_after", FIRST).isoformat()
        ]
        assert list(ids_by_page(reader, Selection(**filters))) == wanted, filters


def test_the_counts_are_what_there_is(reader: Reader) -> None:
    counts = reader.counts()
    assert sum(one.count for one in counts) == COUNT
    assert [(one.status, one.count) for one in counts if one.status == "LOST"] == [("LOST", 1)]


def test_no_page_reads_a_whole_table() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        for name in (
            *("pick_newest", "pick_among", "pick_oldest_unfinished", "load_summaries"),
            "match_rows",
        ):
            sql = getattr(load_queries(), name).sql
            names = dict.fromkeys(re.findall(r":(\w+)", sql))
            plan = [row[3] for row in connection.execute(f"explain query plan {sql}", names)]
            tables = (
                "execution|foremost|next_one|newest|oldest|step|done|failed|signal|blocked"
                "|not_undone|tag|in_range"
            )
            assert not [step for step in plan if re.match(rf"SCAN ({tables})\b(?! USING)", step)], (
                name
            )


ENDED = MIDDLE + timedelta(seconds=3)
ROW_FILTERS: list[dict[str, Any]] = [
    dict(itertools.chain(*(one.items() for one in some)))
    for some in itertools.product(
        [{}, {"statuses": ["FAILED"]}, {"id_prefix": "0", "workflow_types": ["order"]}],
        [{}, {"changed_after": ENDED}, {"changed_before": ENDED}],
        [{}, {"error": "PAYMENT"}],
        [{}, {"inputs": (InputFilter.from_text("1=A-77"),)}],
    )
]


@pytest.mark.parametrize("at_once", [1, pytest.param(50, marks=pytest.mark.campaign), 1_000])
def test_what_no_index_holds_is_found_by_looking_at_each(
    history: Path, reader: Reader, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "AT_ONCE", at_once)
    with closing(sqlite3.connect(history)) as connection:
        rows = connection.execute(
            "select workflow_execution_id, status, workflow_type, updated_at,"
            " coalesce(error_message, ''), input_data"
            " from workflow_executions as e join workflows using (workflow_id)"
            " order by e.created_at desc, e.rowid desc"
        ).fetchall()
    for filters in ROW_FILTERS:
        wanted = [
            one
            for one, status, name, updated_at, message, data in rows
            if status in filters.get("statuses", [status])
            and name in filters.get("workflow_types", [name])
            and one.startswith(filters.get("id_prefix", ""))
            and updated_at < filters.get("changed_before", LAST).isoformat()
            and updated_at >= filters.get("changed_after", FIRST).isoformat()
            and ("error" not in filters or "payment" in message)
            and ("inputs" not in filters or data == '["A-77"]')
        ]
        selection = Selection(**filters)
        assert list(itertools.chain(*reader.execution_ids(selection))) == wanted, filters
        assert list(ids_by_page(reader, selection)) == wanted, filters


VALUES: list[tuple[str, object]] = [
    ("7", 7),
    ("7", "7"),
    ("-1.5", -1.5),
    ("true", True),
    ("true", "true"),
    ("null", None),
    ("", ""),
    ("a=b", "a=b"),
    ("Köln 'x' \"y\"", "Köln 'x' \"y\""),
]


@pytest.mark.few(4)
@pytest.mark.parametrize(("text", "value"), VALUES, ids=str)
def test_a_value_of_the_input_is_found_as_it_is_written(
    tmp_path: Path, text: str, value: object
) -> None:
    file = tmp_path / "inputs.db"
    build(file, 9, 1)
    inputs: list[object] = [
        [value],
        ["x", value],
        [{"a": value}],
        ["x", {"a": {"b c": value}}],
        [{"a": [value]}],
        {"a": value},
        ["other"],
    ]
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.executemany(
            "update workflow_executions set input_data = ?,"
            " workflow_execution_id = ?, created_at = ? where rowid = ?",
            [
                (data, str(number), f"2025-01-01T00:00:0{9 - number}.000000Z", number + 1)
                for number, data in enumerate([*map(json.dumps, inputs), "no JSON"])
            ],
        )

    def found(*filters: str) -> list[str]:
        selection = Selection(inputs=tuple(map(InputFilter.from_text, filters)))
        with open_reader(file) as opened:
            return list(itertools.chain(*opened.execution_ids(selection)))

    assert found(f"1={text}") == ["0"]
    assert found(f"2={text}") == ["1"]
    assert found(f"a={text}") == ["2"]
    assert found(f"a.b c={text}", "1=x") == ["3"]
    assert found(f"a.b c={text}", "1=y") == []


def test_what_is_blocked_is_found_by_the_index_of_those(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    build(file, 30, 1)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set blocked_reason = 'x', status = 'RUNNING'"
            " where rowid % 3 = 0"
        )
        connection.execute("update workflow_executions set status = 'FAILED' where rowid = 6")
        (before,) = connection.execute(
            "select created_at from workflow_executions where rowid = 20"
        ).fetchone()
        wanted = connection.execute(
            "select workflow_execution_id from workflow_executions where rowid % 3 = 0"
            " and rowid != 6 and created_at < ? order by created_at desc, rowid desc",
            (before,),
        ).fetchall()
    selection = Selection(is_blocked=True, created_before=datetime.fromisoformat(before))
    with open_reader(file) as opened:
        assert list(itertools.chain(*opened.execution_ids(selection))) == [one for (one,) in wanted]
        first = opened.page(selection, limit=2)
        rest = opened.page(selection, first.next)
        assert [row.id for row in (*first.rows, *rest.rows)] == [one for (one,) in wanted]


def test_a_page_that_is_none_is_refused(reader: Reader) -> None:
    text = reader.page(limit=3).next
    assert text is not None
    assert len(text) <= 24
    assert text.isalnum()
    assert reader.page(after=text.upper(), limit=3).next != text
    others = [text[:-1], text[1:], f"{text}a", *(f"{text[:n]}7{text[n + 1 :]}" for n in range(9))]
    for wrong in ("", "x", "ff", "5b5d", "é", "a" * 1000, *others):
        if wrong != text:
            with pytest.raises(ValueError, match="next"):
                reader.page(after=wrong)


@pytest.mark.parametrize(
    ("created_at", "row_number"),
    [
        ("2026-11-28T23:59:59.999999Z", 1),
        ("2026-11-28T23:59:59.999999Z", 2**63 - 1),
        ("1970-01-01T00:00:00.000000Z", 127),
        ("9999-12-31T23:59:59.999999Z", 128),
        ("1969-12-31T23:59:59.999999Z", 1),
        ("2026-11-28T23:59:59.999Z", 1),
        ("2026-11-28", 1),
        ("yesterday", -5),
        ("", 0),
    ],
)
def test_a_place_is_read_as_it_was_written(created_at: str, row_number: int) -> None:
    place = Cursor(created_at, row_number)
    assert Cursor.from_text(place.to_text()) == place


def test_nobody_is_none(reader: Reader) -> None:
    assert reader.execution("nobody") is None


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        ({"statuses": ExecutionStatus.FAILED}, r"statuses must be several, as in \['FAILED'\]"),
        ({"workflow_types": "order"}, "workflow_types must be several"),
        ({"queues": "mail"}, "queues must be several"),
    ],
)
def test_one_name_in_place_of_several_is_refused(filters: dict[str, Any], why: str) -> None:
    with pytest.raises(TypeError, match=why):
        Selection(**filters)


def test_what_is_opened_is_neither_made_nor_migrated(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    with pytest.raises(StoreError, match="there is no file"):
        open_reader(file)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table other (id)")
    with pytest.raises(MigrationError, match="another application"):
        open_reader(file)
    assert [one.name for one in tmp_path.iterdir()] == ["workflows.db"]


def test_another_version_of_the_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    build(file, 1, 1)
    for version, error in ((4, "durable-workflow migrate"), (99, "update durable-workflow")):
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(f"pragma user_version = {version}")
        with pytest.raises(StoreError, match=error) as caught:
            open_reader(file)
        assert isinstance(caught.value, SchemaTooNewError) == (version == 99)


def test_each_method_sees_one_moment_and_the_next_one_what_came_since(tmp_path: Path) -> None:
    file = tmp_path / "workflows.db"
    build(file, 10, 1)
    with open_reader(file) as opened, closing(sqlite3.connect(file)) as writer:
        before = opened.changes()
        with writer:
            writer.execute("update workflow_executions set blocked_reason = 'x', status='RUNNING'")
        assert opened.changes() != before
        assert opened.overview(datetime.now(UTC), limit=3).blocked_total == 10


def test_an_reader_keeps_no_writer_waiting_in_the_middle_of_a_read(tmp_path: Path) -> None:
    """SQLite calls back after some instructions of a query, and a writer commits right then."""
    file = tmp_path / "workflows.db"
    build(file, 200, 2)
    committed: list[int] = []
    refused: list[sqlite3.Error] = []

    def write() -> int:
        try:
            writer.execute("update workflow_executions set priority = ?", (len(committed),))
        except sqlite3.Error as error:
            refused.append(error)
        else:
            committed.append(opened._connection.in_transaction)
        return 0

    with (
        open_reader(file) as opened,
        closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as writer,
    ):
        opened._connection.set_progress_handler(write, 5000)
        opened.overview(datetime.now(UTC))
        opened.page(Selection(created_after=datetime.now(UTC) - timedelta(days=9999)))
    assert refused == []
    assert len(committed) >= 2 and all(committed)
