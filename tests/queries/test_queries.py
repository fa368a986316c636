"""The files of sql/queries: what they hold, how they load, and the rows that they really give."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from check_types import problems
from durable_workflow_sqlite import (
    StoreError,
)
from durable_workflow_sqlite.store.in_memory import open_in_memory
from durable_workflow_sqlite.store.migration_files import FIRST
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.sql import MIGRATIONS_DIR, QUERIES_DIR, load_queries
from query_files import Query
from seeded_database import NOON_TEXT, seeded_database
from tests.sql_files import QUERIES

FILES = sorted(QUERIES_DIR.glob("*.sql"))

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def code_of(query: Query) -> str:
    """The statement without its comments."""
    lines = query.statement.splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("--"))


@pytest.fixture
def empty() -> Iterator[sqlite3.Connection]:
    """A migrated database."""
    with closing(open_in_memory()) as connection:
        yield connection


# What the files hold


OF_ALL_TABLES = ("inspection", "overview")  # what people ask: of any table, and of the views


def test_each_table_has_a_file_of_queries_and_each_file_a_table(
    empty: sqlite3.Connection,
) -> None:
    tables = empty.execute(
        "select name from sqlite_schema where type = 'table' and substr(name, 1, 7) <> 'sqlite_'"
    )
    assert [path.stem for path in FILES] == sorted([*OF_ALL_TABLES, *(name for (name,) in tables)])


@each_file
def test_a_file_opens_with_a_paragraph(path: Path) -> None:
    before, _, _ = path.read_text(encoding="utf-8").partition("-- name:")
    lines = before.strip().splitlines()
    assert all(line.startswith("--") for line in lines)
    words = " ".join(line.removeprefix("--") for line in lines).split()
    assert len(words) >= 15, "that is no paragraph"
    assert words[-1].endswith(".")


def test_a_query_says_in_a_sentence_what_it_is_for() -> None:
    for query in QUERIES:
        purpose = " ".join(query.purpose)
        is_sentence = purpose[0].isupper() and purpose.endswith(".")
        assert is_sentence and len(purpose.split()) >= 4, query.name


def test_a_query_is_about_the_table_that_its_file_is_named_for() -> None:
    for query in QUERIES:
        if query.path.stem in OF_ALL_TABLES:
            assert re.match("select|with", code_of(query)), f"{query.name} only reads"
        else:
            assert table_of(query) == query.path.stem, query.name


def table_of(query: Query) -> str | None:
    code = code_of(query)
    match = re.match(r"(?:insert into|update|delete from) (\w+)", code)
    if match is None and code.startswith("with recursive"):
        match = re.search(
            rf"^ +(?:select min\(\w+\) )?from ({query.path.stem})\b", code, re.MULTILINE
        )
    elif match is None:
        assert code.startswith("select")
        match = re.search(r"^from (\w+)", code, re.MULTILINE)
    return match and match[1]


def test_a_query_names_its_columns() -> None:
    star = re.compile(r"(select|returning|distinct|all|,)\s*\*|\.\s*\*")
    assert [query.name for query in QUERIES if star.search(code_of(query))] == []


def test_the_standard_library_prepares_a_query(empty: sqlite3.Connection) -> None:
    for query in QUERIES:
        sql = getattr(load_queries(), query.name).sql
        assert empty.execute(f"explain {sql}", dict.fromkeys(query.parameters)).fetchall()


def test_what_landed_migrations_name_is_there_or_the_document_says_what_became_of_it() -> None:
    """They are never edited, so their comments name queries and more as these once were."""
    name = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
    document = (QUERIES_DIR.parents[1] / "docs/sql.md").read_text(encoding="utf-8")
    known = {query.name for query in QUERIES}
    known |= set(name.findall((QUERIES_DIR.parent / "schema.sql").read_text(encoding="utf-8")))
    known |= {path.stem for path in (QUERIES_DIR.parent / "views").glob("*.sql")}
    known |= set(name.findall(document)) | {"durable_workflow", "user_version", *FIRST}
    for path in sorted(MIGRATIONS_DIR.glob("*.sql")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith("--"):
                assert known.issuperset(name.findall(line)), f"{path.name}: {line}"


# Loading them


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the query files, to be changed."""
    return Path(shutil.copytree(QUERIES_DIR, tmp_path / "queries"))


def test_every_query_is_loaded_under_its_name() -> None:
    loaded = load_queries()
    assert load_queries() is loaded
    for query in QUERIES:
        assert callable(getattr(loaded, query.name))


def test_a_name_in_two_files_is_refused(folder: Path) -> None:
    with (folder / "workflows.sql").open("a") as file:
        file.write("\n-- name: load_timers\n-- A second one.\nselect 1 as one;\n")
    with pytest.raises(StoreError) as caught:
        load_queries(folder)
    message = str(caught.value)
    assert "load_timers" in message
    assert str(folder / "workflow_timers.sql") in message
    assert str(folder / "workflows.sql") in message


def test_a_query_that_is_missing_is_refused(folder: Path) -> None:
    timers = folder / "workflow_timers.sql"
    timers.write_text(timers.read_text().replace("load_timers\n", "load_alarms\n"))
    (folder / "workflows.sql").unlink()
    with pytest.raises(StoreError) as caught:
        load_queries(folder)
    message = str(caught.value)
    assert str(folder) in message
    for name in ("load_timers", "load_workflow", "load_workflows", "upsert_workflow"):
        assert name in message
    assert "load_pending_timers" not in message


def test_a_query_may_be_added_and_edited(folder: Path, empty: sqlite3.Connection) -> None:
    workflows = folder / "workflows.sql"
    edited = workflows.read_text().replace(
        "order by workflow_type,", "order by workflow_type desc,"
    )
    workflows.write_text(f"{edited}\n-- name: count_workflows$\nselect count(*) from workflows;\n")
    queries: Any = load_queries(folder)
    for name in ("a", "b"):
        queries.upsert_workflow(
            empty, workflow_id=name, workflow_type=name, version=1, created_at=NOON_TEXT
        )
    assert [row.workflow_id for row in queries.load_workflows(empty)] == ["b", "a"]
    assert queries.count_workflows(empty) == 2


# What they give


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with seeded_database(tmp_path_factory.mktemp("seeded")) as connection:
        yield connection


@pytest.fixture
def filled(original: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Records of every status, each column that may be null once null and once not."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        original.backup(connection)
        yield connection


def test_rows_have_the_types_that_are_declared(original: sqlite3.Connection) -> None:
    assert list(problems(QUERIES_DIR, MIGRATIONS_DIR, original)) == []


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("file", "right", "wrong", "says"),
    [
        (
            "queries/workflow_executions.sql",
            "-- =wakes_at text null\n",
            "-- =wakes_at text\n",
            "load_unqueued: wakes_at is null in a row; write `-- =wakes_at text null`",
        ),
        (
            "queries/overview.sql",
            "-- =completed integer\n",
            "-- =completed text\n",
            "count_by_hour: completed is integer in a row; write `-- =completed integer`",
        ),
        (
            "queries/workflow_executions.sql",
            "-- =is_suspect integer\n",
            "-- =is_suspect integer null\n",
            "load_available: is_suspect is null in no row of tools/seeded_database.py",
        ),
        (
            "views/workflow_overview.sql",
            "waiting_for            text null ",
            "waiting_for            text ",
            "waiting_for is null in a row; write `text null`",
        ),
        (
            "views/workflow_queue.sql",
            "waiting           integer ",
            "waiting           real ",
            "waiting is integer in a row; write `integer`",
        ),
    ],
)
def test_a_type_that_a_row_does_not_have_is_refused(
    tmp_path: Path, original: sqlite3.Connection, file: str, right: str, wrong: str, says: str
) -> None:
    shutil.copytree(QUERIES_DIR.parent, tmp_path / "sql")
    path = tmp_path / "sql" / file
    text = path.read_text(encoding="utf-8")
    line = text[: text.index(right)].count("\n") + 1
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    found = list(problems(tmp_path / "sql/queries", tmp_path / "sql/migrations", original))
    assert found
    assert found[0].startswith(f"{path}:{line}: {says}")


def test_one_row_that_is_not_there_is_none(filled: sqlite3.Connection) -> None:
    for query in QUERIES:
        if query.operation == "^":
            nobody = dict.fromkeys(query.parameters, "nobody")
            assert getattr(load_queries(), query.name)(filled, **nobody) is None


def test_a_value_has_the_type_that_its_method_annotates(filled: sqlite3.Connection) -> None:
    filled.execute("delete from workflow_moves")  # it was moved, and takes nothing
    queries = load_queries()
    values: dict[str, set[type]] = {}
    for one in ("RUNNING, empty", "FAILED, empty"):
        claim = queries.insert_claim(
            filled, workflow_execution_id=one, worker_id="w", claimed_at=NOON_TEXT
        )
        sent = queries.send_signal(
            filled,
            workflow_execution_id=one,
            signal_name="go",
            payload=None,
            created_at=NOON_TEXT,
            signal_key=None,
        )
        asked = queries.request_cancel(
            filled, workflow_execution_id=one, cancel_signal="$stop", created_at=NOON_TEXT
        )
        values.setdefault("request_cancel", set()).add(type(asked))
        values.setdefault("insert_claim", set()).add(type(claim))
        values.setdefault("send_signal", set()).add(type(sent))
    for name in ("$answer:go@1.22", "$answer:other@1.22"):
        answered = queries.answer_question(
            filled,
            workflow_execution_id="asleep",
            signal_name=name,
            payload="true",
            created_at=NOON_TEXT,
            signal_key=None,
        )
        values.setdefault("answer_question", set()).add(type(answered))
    assert type(queries.load_last_signal_id(filled)) is int
    values["load_last_signal_id"] = {int, type(None)}
    inserted = queries.insert_signal(
        filled,
        workflow_execution_id="RUNNING, empty",
        signal_name="go",
        payload=None,
        status="PENDING",
        created_at=NOON_TEXT,
        refused_reason=None,
        signal_key=None,
    )
    assert type(inserted) is int, "an insert without a condition always gives its row"
    values["insert_signal"] = {int, type(None)}
    number = queries.insert_worker(
        filled,
        worker_id="w",
        host="here",
        process_id=42,
        program="python",
        started_at=NOON_TEXT,
        max_concurrent=None,
    )
    assert type(number) is int, "an insert without a condition always gives its row"
    assert number == queries.load_worker_number(filled, worker_id="w")
    assert queries.load_worker_number(filled, worker_id="nobody") is None
    assert type(queries.load_next_key(filled, queue="mail", after="")) is str
    assert queries.load_next_key(filled, queue="nobody", after="") is None
    values["load_next_key"] = {str, type(None)}
    assert type(queries.load_holder(filled, workflow_execution_id="asleep")) is str
    assert queries.load_holder(filled, workflow_execution_id="queued") is None
    assert queries.load_spreading(filled) == "asleep"
    values["load_holder"] = values["load_spreading"] = {str, type(None)}
    values["insert_worker"] = values["load_worker_number"] = {int, type(None)}
    assert type(queries.load_next_fire_at(filled, now="")) is str
    assert queries.load_next_fire_at(filled, now="~") is None
    values["load_next_fire_at"] = {str, type(None)}
    (cut_off, *_) = queries.load_steps_cut_off(filled, row_limit=1)
    for name in (
        "count_ids",
        "count_pending_timers",
        "count_steps_in_doubt",
        "count_steps_cut_off",
        "count_unresolved",
        "count_blocked",
        "count_in_trouble",
        "count_cut_off_of",
        "count_not_undone",
        "count_undoing",
        "count_taken_over",
        "count_failed_since",
        "count_paused",
        "count_overdue_timers",
    ):
        arguments = {
            "workflow_execution_id": cut_off.workflow_execution_id,
            "id_from": "",
            "id_before": "~",
            "at_most": 9,
            "living": "[]",
            "least": 2,
            "since": "",
            "before": "9999-12-31T00:00:00.000000Z",
        }
        count = getattr(queries, name)(filled, **arguments)
        assert type(count) is int, "a count always gives its row"
        assert count > 0
        values[name] = {int, type(None)}

    assert values == {
        query.name: set(get_args(get_type_hints(getattr(Queries, query.name))["return"]))
        for query in QUERIES
        if query.operation == "$"
    }


# What they change


def changes(connection: sqlite3.Connection, query: Query, **known: object) -> int:
    """Run a query that changes rows, and check that it counts them."""
    arguments = {name: known.get(name, "nobody") for name in query.parameters}
    before = connection.total_changes
    count: int = getattr(load_queries(), query.name)(connection, **arguments)
    assert connection.total_changes - before == count
    return count


@pytest.mark.parametrize(
    "query",
    [query for query in QUERIES if query.operation == "!" and query.statement[0] in "ud"],
    ids=lambda query: query.name,
)
def test_an_update_or_delete_of_what_is_not_there_changes_nothing(
    query: Query, filled: sqlite3.Connection
) -> None:
    long_ago = {"before": "0001-01-01T00:00:00.000000Z", "batch_size": 9}
    none = {"workflow_execution_ids": '["nobody"]', "fencing_token": -1, "fencing_tokens": "[-1]"}
    none["worker_numbers"] = "[-1]"
    assert changes(filled, query, **long_ago, **none) == 0


@pytest.mark.parametrize(
    "query",
    [query for query in QUERIES if "fencing_token" in query.parameters],
    ids=lambda query: query.name,
)
def test_a_token_that_is_not_the_claim_s_changes_nothing(
    query: Query, filled: sqlite3.Connection
) -> None:
    claim = load_queries().load_claim(filled, workflow_execution_id="RUNNING, full")
    assert claim is not None
    another = claim.fencing_token + 1
    one = {"items": '["1"]'}
    claimed = {"workflow_execution_id": "RUNNING, full", "fencing_token": another}
    assert changes(filled, query, **claimed, **one) == 0
    of_another = {"workflow_execution_id": "PENDING, full", "fencing_token": claim.fencing_token}
    assert changes(filled, query, **of_another, **one) == 0


# How they find it


def plan(query: Query, connection: sqlite3.Connection) -> list[str]:
    sql = getattr(load_queries(), query.name).sql
    steps = connection.execute(f"explain query plan {sql}", dict.fromkeys(query.parameters))
    return [step for *_, step in steps]


def test_no_query_of_an_engine_reads_a_whole_table(empty: sqlite3.Connection) -> None:
    whole_table = re.compile(
        r"SCAN (TABLE )?(?!workflow_in_doubt)(workflow\w*|step_\w+)\b(?! USING)"
    )
    found = {query.name for query in QUERIES if any(map(whole_table.match, plan(query, empty)))}
    # Definitions, pauses and slots are few, and some ask for all; one takes the first row that
    # there is. The others are questions of an operator's.
    definitions = {"load_workflows", "load_queues", "count_unfinished", "load_queue_heads"}
    definitions |= {"load_workflows_of_workers", "load_pauses", "load_limits", "insert_claim"}
    definitions |= {"load_heads_of_queue", "delete_void_step_slots", "load_spreading"}
    assert found == {*definitions, "load_suspect_executions", "load_latest_acts"}


@pytest.mark.parametrize("name", ["put_into_queue", "load_unqueued"])
def test_when_something_is_to_be_done_is_found_without_reading_all_pending_timers(
    name: str, empty: sqlite3.Connection
) -> None:
    (query,) = (query for query in QUERIES if query.name == name)
    steps = [step for step in plan(query, empty) if "workflow_timers" in step]
    assert steps and all("(workflow_execution_id=?" in step for step in steps)


def test_the_first_signal_of_each_name_is_found_by_the_index(empty: sqlite3.Connection) -> None:
    (query,) = (query for query in QUERIES if query.name == "load_next_signals")
    first, *_, last = (step for step in plan(query, empty) if "SEARCH" in step)
    assert "INTEGER PRIMARY KEY (rowid=?)" in first
    assert "(workflow_execution_id=? AND status=? AND signal_name=?)" in last
    assert not any("ORDER BY" in step for step in plan(query, empty))
