"""The files of sql/queries: what they hold, how they load, and the rows that they really give."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from durable_workflow_sqlite import (
    ExecutionStatus,
    SignalStatus,
    SqliteCheckpointStore,
    StepCheckpoint,
    StepKind,
    StepStatus,
    StoreError,
    TimerStatus,
    Workflow,
    WorkflowExecution,
    WorkflowGuarantee,
    WorkflowSignal,
    WorkflowTimer,
)
from durable_workflow_sqlite.store.in_memory import open_in_memory
from durable_workflow_sqlite.store.queries import ROW_CLASSES, Queries
from durable_workflow_sqlite.store.sql import QUERIES_DIR, load_queries
from query_files import Query, read_queries

FILES = sorted(QUERIES_DIR.glob("*.sql"))
QUERIES = [query for path in FILES for query in read_queries(path)]
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
NOON_TEXT = "2024-02-29T12:00:00.000000Z"
WHATEVER_STATUS = json.dumps(list(ExecutionStatus))

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
each_query = pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)


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


@each_query
def test_a_query_says_in_a_sentence_what_it_is_for(query: Query) -> None:
    purpose = " ".join(query.purpose)
    assert len(purpose.split()) >= 4
    assert purpose[0].isupper()
    assert purpose.endswith(".")


@each_query
def test_a_query_is_about_the_table_that_its_file_is_named_for(query: Query) -> None:
    code = code_of(query)
    if query.path.stem in OF_ALL_TABLES:
        assert re.match("select|with", code), "it only reads"
        return
    match = re.match(r"(?:insert into|update|delete from) (\w+)", code)
    if match is None and code.startswith("with recursive"):
        match = re.search(
            rf"^ +(?:select min\(\w+\) )?from ({query.path.stem})\b", code, re.MULTILINE
        )
    elif match is None:
        assert code.startswith("select")
        match = re.search(r"^from (\w+)", code, re.MULTILINE)
    assert match is not None
    assert match[1] == query.path.stem


@each_query
def test_a_query_names_its_columns(query: Query) -> None:
    assert not re.search(r"(select|returning|distinct|all|,)\s*\*|\.\s*\*", code_of(query))


@each_query
def test_the_standard_library_prepares_a_query(query: Query, empty: sqlite3.Connection) -> None:
    sql = getattr(load_queries(), query.name).sql
    assert empty.execute(f"explain {sql}", dict.fromkeys(query.parameters)).fetchall()


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
        file.write("\n-- name: load_timers()\n-- A second one.\nselect 1 as one;\n")
    with pytest.raises(StoreError) as caught:
        load_queries(folder)
    message = str(caught.value)
    assert "load_timers" in message
    assert str(folder / "workflow_timers.sql") in message
    assert str(folder / "workflows.sql") in message


def test_a_query_that_is_missing_is_refused(folder: Path) -> None:
    timers = folder / "workflow_timers.sql"
    timers.write_text(timers.read_text().replace("-- name: load_timers(", "-- name: load_alarms("))
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
    workflows.write_text(
        f"{edited}\n-- name: count_workflows()$\nselect count(*) from workflows;\n"
    )
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
    file = tmp_path_factory.mktemp("filled") / "workflows.db"
    # An execution is claimed while its store is open, and let go when it is closed.
    store = asyncio.run(_fill(file))
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            _add_by_hand(connection)
            _add_workers(connection)
            _write_otherwise(connection)
            yield connection
    finally:
        asyncio.run(store.close())


@pytest.fixture
def filled(original: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Records of every status, each column that may be null once null and once not."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        original.backup(connection)
        yield connection


async def _fill(file: Path) -> SqliteCheckpointStore:
    store = SqliteCheckpointStore.file(file)
    await store.save_workflow(Workflow(workflow_id="order:1", workflow_type="order"))
    for status in ExecutionStatus:
        for execution in (_empty_execution(status), _full_execution(status)):
            one = execution.workflow_execution_id
            await store.save_execution(execution)
            await store.save(*_checkpoints(one), *_timers(one), *_signals(one))
    assert await store.claim_execution("RUNNING, full") is not None
    return store


def _empty_execution(status: ExecutionStatus) -> WorkflowExecution:
    return WorkflowExecution(
        workflow_execution_id=f"{status}, empty", workflow_id="order:1", status=status
    )


def _full_execution(status: ExecutionStatus) -> WorkflowExecution:
    return WorkflowExecution(
        workflow_execution_id=f"{status}, full",
        workflow_id="order:1",
        status=status,
        current_step=3,
        input_data="[1]",
        output_data="2.5",
        error_type="builtins:ValueError",
        error_message="it broke",
        ttl_expires_at=NOON,
        guarantee=WorkflowGuarantee.BEST_EFFORT_BACKGROUND,
        priority=3,
        recovery_count=2,
        blocked_reason="not yet" if status is ExecutionStatus.PENDING else None,
        trouble="not now" if status is ExecutionStatus.SUSPENDED else None,
        available_at=NOON,
        last_event=2,
        started_at=NOON,
        created_at=NOON,
        updated_at=NOON,
    )


def _checkpoints(one: str) -> Iterator[StepCheckpoint]:
    for index, status in enumerate(StepStatus):
        yield StepCheckpoint(
            workflow_execution_id=one, step_index=index, step_name=f"{status}", status=status
        )
    for index, kind in enumerate(StepKind):
        yield StepCheckpoint(
            workflow_execution_id=one,
            step_index=index,
            step_name=f"{kind}",
            status=StepStatus.FAILED,
            branch="left",
            attempt=2,
            kind=kind,
            input_data="1",
            output_data="null",
            error_type="builtins:ValueError",
            error_message="",
            idempotency_key="0",
            compensate_ref="shop:refund",
            started_at=NOON,
            completed_at=NOON,
            due_at=NOON,
            event=index + 1,
        )


def _timers(one: str) -> Iterator[WorkflowTimer]:
    # One execution has none.
    for status in TimerStatus if one != "PENDING, empty" else ():
        yield WorkflowTimer(
            workflow_timer_id=f"{one}: {status}",
            workflow_execution_id=one,
            step_name="rest",
            fire_at=NOON + timedelta(days=1),
            status=status,
        )


def _signals(one: str) -> Iterator[WorkflowSignal]:
    for status in SignalStatus if one != "PENDING, empty" else ():
        for payload in (None, "17"):
            yield WorkflowSignal(
                workflow_execution_id=one,
                signal_name="go",
                payload=payload,
                status=status,
                refused_reason=None if payload is None else "it is no string",
            )


EVERYTHING = {
    "workflow_type": None,
    "version": None,
    "id_from": "",
    "id_before": "~",
    "created_from": "",
    "before_time": "~",
    "before_rowid": 0,
    "row_limit": 99,
}


def _add_by_hand(connection: sqlite3.Connection) -> None:
    """An execution of a workflow that is not in the file, blocked in the middle of a step."""
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status,"
        " blocked_reason, trouble) values ('by hand', 'gone', 'RUNNING', 'edited', 'edited')"
    )
    connection.execute(
        "insert into step_checkpoints (workflow_execution_id, step_index, step_name, status,"
        " idempotency_key, started_at) values ('by hand', 0, 'pay', 'INTENT', 'k', ?)",
        (NOON_TEXT,),
    )
    for execution, key in (("by hand", "k"), ("RUNNING, full", None)):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, status,"
            " error_type, idempotency_key, started_at)"
            " values (?, 9, 'ship', 'FAILED', 'asyncio.exceptions:CancelledError', ?, ?)",
            (execution, key, NOON_TEXT),
        )
    connection.execute(
        "insert into workflow_timers (workflow_timer_id, workflow_execution_id, step_name,"
        " fire_at) values ('t', 'by hand', 'rest', ?)",
        (NOON_TEXT,),
    )
    connection.execute(
        "insert into workflow_signals (workflow_execution_id, signal_name, payload,"
        " refused_reason) values ('by hand', 'stop', '17', 'no string')"
    )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
        " values ('gone', 'gone', 'COMPLETED')"
    )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
        " values ('asleep', 'order:1', 'SUSPENDED')"
    )
    connection.execute(
        "insert into step_checkpoints (workflow_execution_id, step_index, step_name, kind, status,"
        " started_at, due_at) values ('asleep', 0, 'rest', 'SLEEP', 'INTENT', ?, ?)",
        (NOON_TEXT, NOON_TEXT),
    )
    connection.execute(
        "update workflow_executions set trouble_since = created_at where trouble is not null"
        " and workflow_execution_id = 'SUSPENDED, full'"
    )
    for execution, error, failed_at in (("by hand", None, None), ("FAILED, full", "E", NOON_TEXT)):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, attempt, step_name,"
            " status, error_type, error_message, completed_at)"
            " values (?, 0, 0, 'pay:compensate', 'FAILED', ?, ?, ?)",
            (execution, error, error, failed_at),
        )
    for index, workflow, data, error, due_at in (
        (7, "order:1", '{"attempt": 2}', "it broke", NOON_TEXT),
        (8, "gone", None, None, None),
    ):
        one = f"undoing {index}"
        connection.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
            " values (?, ?, 'COMPENSATING')",
            (one, workflow),
        )
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, attempt, step_name,"
            " status, input_data, error_type, error_message, due_at)"
            " values (?, 0, 0, 'pay:compensate', 'INTENT', ?, 'E', ?, ?)",
            (one, data, error, due_at),
        )
    connection.execute(
        "insert into workflow_tags (workflow_execution_id, name, value)"
        " values ('by hand', 'customer', '7')"
    )
    for details in (None, "{}"):
        connection.execute(
            "insert into workflow_audit_log (workflow_execution_id, act, actor, details)"
            " values ('by hand', 'retry', 'kim', ?)",
            (details,),
        )
    for index, wants in enumerate((None, '{"type":"int","json":["number"]}')):
        connection.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, kind,"
            " status, branch, input_data, idempotency_key, compensate_ref, output_data, error_type,"
            " error_message, started_at, completed_at, due_at, event)"
            f" values ('asleep', ?, 'go', 'SIGNAL', 'INTENT', 'waits'{', ?' * 10})",
            (index, wants, *(wants,) * 7, wants and NOON_TEXT, wants and 1),
        )
    connection.execute(
        "insert into step_checkpoints (workflow_execution_id, step_index, step_name, kind, status)"
        " values ('asleep', 1, 'stop', 'SIGNAL', 'INTENT')"
    )
    connection.executemany(
        "insert into workflow_signals (workflow_execution_id, signal_name, status, refused_reason)"
        " values ('asleep', ?, 'REFUSED', ?)",
        (("go", "it is no integer"), ("stop", None)),
    )


def _add_workers(connection: sqlite3.Connection) -> None:
    """One that joined, one that is dead, and more in the hands of the one with claims."""
    for worker, most, seen_dead_at in (("joined", 7, None), ("dead", None, NOON_TEXT)):
        connection.execute(
            "insert into workflow_workers (worker_id, host, process_id, program, max_concurrent,"
            " seen_dead_at) values (?, 'here', 42, 'python', ?, ?)",
            (worker, most, seen_dead_at),
        )
        connection.execute(
            "insert into workflow_worker_workflows select worker_number, 'order', 1"
            " from workflow_workers where worker_id = ?",
            (worker,),
        )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
        " values ('between steps', 'order:1', 'RUNNING')"
    )
    connection.execute(
        "insert into workflows (workflow_id, workflow_type) values ('other:1', 'other')"
    )
    connection.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
        " values ('elsewhere', 'other:1', 'SUSPENDED')"
    )
    for execution in ("between steps", "undoing 7", "undoing 8"):
        connection.execute(
            "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
            " select ?, worker_id, claimed_at from workflow_claims limit 1",
            (execution,),
        )
    connection.execute(
        "update step_checkpoints set worker_number = 1, started_at = ?"
        " where workflow_execution_id = 'undoing 7'",
        (NOON_TEXT,),
    )


def _write_otherwise(connection: sqlite3.Connection) -> None:
    """Times that can be read, though the library writes them in another way; and no JSON."""
    connection.execute("pragma ignore_check_constraints = on")
    for table, column, rows in (
        ("workflow_executions", "created_at", "true"),
        ("workflow_timers", "created_at", "true"),
        ("workflow_signals", "created_at", "true"),
        ("step_checkpoints", "started_at", "kind != 'SLEEP'"),
    ):
        connection.execute(
            f"update {table} set {column} = replace({column}, 'T', ' ') where {rows}"
        )
    connection.execute(
        "update step_checkpoints set output_data = null where branch = 'left' and kind = 'STEP'"
    )
    connection.execute("update step_checkpoints set output_data = '?' where branch = ''")


WHOEVER = object()
"""Stands for the worker that has claims."""

SELECTS: dict[str, list[dict[str, Any]]] = {
    "load_checkpoints": [{"workflow_execution_id": "RUNNING, full"}],
    "load_claim": [{"workflow_execution_id": "RUNNING, full"}],
    "load_pending": [{"workflow_execution_id": "RUNNING, full"}],
    "take_execution": [
        {"workflow_execution_id": f"{status}, {how}", "cancel_signal": "$cancel"}
        for status in ExecutionStatus
        for how in ("empty", "full")
    ],
    "load_execution": [
        {"workflow_execution_id": f"{status}, {how}"}
        for status in ExecutionStatus
        for how in ("empty", "full")
    ],
    "load_executions_by_status": [{"statuses": WHATEVER_STATUS}],
    "load_stopped": [{"workflow_execution_ids": '["PENDING, full", "SUSPENDED, full"]'}],
    "load_statuses": [{"workflow_execution_ids": '["RUNNING, full", "FAILED, empty"]'}],
    "load_queue_heads": [{}],
    "load_available": [
        {
            "workflow_id": "order:1",
            "priority": 3,
            "now": "9999-12-31T00:00:00.000000Z",
            "passed_over": "[]",
            "suspect_at": 2,
            "with_suspects": 1,
            "batch_size": 99,
        }
    ],
    "load_unqueued": [{}],
    "load_unregistered": [{"workflow_ids": '["order:1"]', "row_limit": 99}],
    "load_blocked": [{}],
    "load_claiming_workers": [{}],
    "load_claims_of": [{"worker_id": WHOEVER}],
    "load_at_work": [{"workflow_execution_ids": '["RUNNING, full"]', "suspect_at": 1}],
    "count_recoveries": [
        {"workflow_execution_ids": '["RUNNING, empty"]', "max_recoveries": most} for most in (9, 0)
    ],
    "load_ids_to_prune": [
        {
            "workflow_id": "order:1",
            "status": status,
            "created_from": "",
            "before": "9999-12-31T00:00:00.000000Z",
            "batch_size": 99,
        }
        for status in ("COMPLETED", "FAILED", "CANCELLED")
    ],
    "load_pending_signals": [
        {"workflow_execution_id": "RUNNING, full", "signal_name": name} for name in (None, "go")
    ],
    "load_next_signals": [
        {"workflow_execution_id": one, "signal_names": '["go", "stop"]'}
        for one in ("RUNNING, full", "by hand")
    ],
    "load_open_waits": [{"workflow_execution_id": "asleep", "signal_name": "go"}],
    "load_signals_after": [{"workflow_signal_id": 0}],
    "load_pending_timers": [{}],
    "load_timers": [{"workflow_execution_id": "RUNNING, full"}],
    "load_workflow": [{"workflow_id": "order:1"}],
    "count_executions": [{}],
    "pick_newest": [{**EVERYTHING, "statuses": None, "id_from": None, "id_before": None}],
    "pick_in_range": [{**EVERYTHING, "statuses": WHATEVER_STATUS}],
    "pick_in_trouble": [{**EVERYTHING, "statuses": WHATEVER_STATUS}],
    "pick_not_undone": [{**EVERYTHING, "statuses": WHATEVER_STATUS}],
    "pick_tagged": [
        {**EVERYTHING, "statuses": WHATEVER_STATUS, "tag_name": "customer", "tag_value": "7"}
    ],
    "pick_blocked": [{**EVERYTHING, "statuses": WHATEVER_STATUS}],
    "pick_with_error": [{**EVERYTHING, "statuses": WHATEVER_STATUS, "error_text": ""}],
    "load_problems": [{"failed_since": "", "row_limit": 99}],
    "load_queue_waits": [{"due_at": "9999-12-31T00:00:00.000000Z", "at_most": 9}],
    "count_by_hour": [{"hours": '["2024-02-29T12"]'}],
    "match_rows": [
        {
            "workflow_execution_ids": '["RUNNING, full", "FAILED, full"]',
            "changed_from": "",
            "changed_before": "9999-12-31T00:00:00.000000Z",
            "step_name": None,
            "error_text": None,
            "inputs": "[]",
            "tags": "{}",
        }
    ],
    "load_finished": [
        {
            "workflow_execution_ids": '["RUNNING, full", "FAILED, full"]',
            "before": "9999-12-31T00:00:00.000000Z",
        }
    ],
    "pick_oldest_unfinished": [{"row_limit": 99}],
    "load_summaries": [
        {
            "workflow_execution_ids": json.dumps(
                ["by hand", "asleep"]
                + [f"{status}, {how}" for status in ExecutionStatus for how in ("empty", "full")]
            )
        }
    ],
    "load_execution_data": [
        {"workflow_execution_id": f"{status}, {how}"}
        for status in ExecutionStatus
        for how in ("empty", "full")
    ],
    "load_signals": [{"workflow_execution_id": "RUNNING, full"}],
    "load_next_timers": [{"row_limit": 99}],
    "load_steps_in_doubt": [{"living": "[]", "row_limit": 99}],
    "load_steps_cut_off": [{"row_limit": 99}],
    "load_blocked_with_reasons": [{"row_limit": 99}],
    "load_taken_over": [{"least": 2, "row_limit": 99}],
    "load_in_trouble": [{"row_limit": 99}],
    "load_schema_objects": [{}],
    "count_prunable": [{"statuses": WHATEVER_STATUS, "before": "9999-12-31T00:00:00.000000Z"}],
    "load_suspect_executions": [{"row_limit": 99}],
    "load_suspect_checkpoints": [{"row_limit": 99}],
    "load_suspect_timers": [{"row_limit": 99}],
    "load_suspect_signals": [{"row_limit": 99}],
    "load_gaps": [{"statuses": WHATEVER_STATUS, "row_limit": 99}],
    "load_refused_signals": [{"row_limit": 99}],
    "load_stray_signals": [{"cancel_signal": "$cancel", "row_limit": 99}],
    "load_workflows": [{}],
    "load_tags": [{"workflow_execution_ids": '["by hand"]'}],
    "load_audit_log": [{"workflow_execution_id": "by hand"}],
    "load_not_undone": [{"row_limit": 99}],
    "load_undoing": [{"row_limit": 99}],
    "load_workers": [{"worker_ids": '["joined", "dead"]'}],
    "load_served": [{"worker_numbers": "[1, 2, 3]"}],
    "load_unmarked_workers": [{}],
    "load_forgettable_workers": [{"before": "9999-12-31T00:00:00.000000Z", "batch_size": 9}],
    "count_claims_by_worker": [{}],
    "load_work_under_way": [{}],
    "load_queues": [{}],
    "count_unfinished": [{}],
    "load_attempt_workers": [{"workflow_execution_id": "undoing 7"}],
}


@pytest.mark.parametrize("name", [query.name for query in QUERIES if query.operation in ("", "^")])
def test_rows_have_the_types_that_their_class_annotates(
    name: str, filled: sqlite3.Connection
) -> None:
    row_class = ROW_CLASSES[name]
    rows: list[Any] = []
    (worker,) = load_queries().load_claiming_workers(filled)
    for arguments in SELECTS[name]:
        known = {
            key: worker.worker_id if value is WHOEVER else value for key, value in arguments.items()
        }
        result = getattr(load_queries(), name)(filled, **known)
        rows += result if isinstance(result, list) else [result]
    assert rows
    assert {type(row) for row in rows} == {row_class}
    seen = {column: {type(getattr(row, column)) for row in rows} for column in row_class._fields}
    annotated = {
        column: set(get_args(hint)) or {hint} for column, hint in get_type_hints(row_class).items()
    }
    assert seen == annotated


def test_one_row_that_is_not_there_is_none(filled: sqlite3.Connection) -> None:
    for query in QUERIES:
        if query.operation == "^":
            nobody = dict.fromkeys(query.parameters, "nobody")
            assert getattr(load_queries(), query.name)(filled, **nobody) is None


def test_a_value_has_the_type_that_its_method_annotates(filled: sqlite3.Connection) -> None:
    queries = load_queries()
    values: dict[str, set[type]] = {}
    for one in ("RUNNING, empty", "FAILED, empty"):
        claim = queries.insert_claim(
            filled, workflow_execution_id=one, worker_id="w", claimed_at=NOON_TEXT
        )
        sent = queries.send_signal(
            filled, workflow_execution_id=one, signal_name="go", payload=None, created_at=NOON_TEXT
        )
        values.setdefault("insert_claim", set()).add(type(claim))
        values.setdefault("send_signal", set()).add(type(sent))
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
    values["insert_worker"] = values["load_worker_number"] = {int, type(None)}
    (cut_off, *_) = queries.load_steps_cut_off(filled, row_limit=1)
    for name in (
        "count_ids",
        "count_pending_timers",
        "count_steps_in_doubt",
        "count_steps_cut_off",
        "count_blocked",
        "count_in_trouble",
        "count_cut_off_of",
        "count_not_undone",
        "count_undoing",
        "count_taken_over",
        "count_failed_since",
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
    claimed = {"workflow_execution_id": "RUNNING, full", "fencing_token": another}
    assert changes(filled, query, **claimed) == 0
    of_another = {"workflow_execution_id": "PENDING, full", "fencing_token": claim.fencing_token}
    assert changes(filled, query, **of_another) == 0


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
    # Definitions are few, and three ask for all. The other is a question of an operator's.
    definitions = {"load_workflows", "load_queues", "count_unfinished"}
    assert found == {*definitions, "load_suspect_executions"}


@pytest.mark.parametrize("name", ["put_into_queue", "load_unqueued"])
def test_when_something_is_to_be_done_is_found_without_reading_all_pending_timers(
    name: str, empty: sqlite3.Connection
) -> None:
    (query,) = (query for query in QUERIES if query.name == name)
    (step,) = (step for step in plan(query, empty) if "workflow_timers" in step)
    assert "(workflow_execution_id=?" in step


def test_the_first_signal_of_each_name_is_found_by_the_index(empty: sqlite3.Connection) -> None:
    (query,) = (query for query in QUERIES if query.name == "load_next_signals")
    first, *_, last = (step for step in plan(query, empty) if "SEARCH" in step)
    assert "INTEGER PRIMARY KEY (rowid=?)" in first
    assert "(workflow_execution_id=? AND status=? AND signal_name=?)" in last
    assert not any("ORDER BY" in step for step in plan(query, empty))
