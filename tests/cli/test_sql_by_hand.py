"""docs/sql.md, as somebody with a SQLite shell alone would use it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, a_worker, lines, run, status_of, wait_until

EXAMPLES: list[str] = re.findall(
    r"^```sql\n(.*?)^```", (ROOT / "docs" / "sql.md").read_text(), re.DOTALL | re.MULTILINE
)
QUESTIONS = [example for example in EXAMPLES if example.startswith("select")]
UPDATES = [example for example in EXAMPLES if example.startswith("update")]
CHANGES = [example for example in EXAMPLES if example.startswith("insert")]
TRIGGERS = [example for example in EXAMPLES if example.startswith("create trigger")]


@pytest.fixture
def shell(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("pragma foreign_keys = on")
        yield connection


def test_there_are_questions_and_changes() -> None:
    assert len(QUESTIONS) >= 8
    assert len(CHANGES) == 4
    assert len(UPDATES) == 1
    assert len(TRIGGERS) == 1
    assert len(QUESTIONS) + len(CHANGES) + len(UPDATES) + len(TRIGGERS) == len(EXAMPLES)


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_each_question_is_answered(shell: sqlite3.Connection, question: str) -> None:
    shell.execute(
        "update workflow_executions set blocked_reason = 'killed its worker'"
        " where workflow_execution_id = 'order-SLOW-1'"
    )
    shell.execute(
        "update workflow_executions set trouble = 'does not fit'"
        " where workflow_execution_id = 'order-SLEEP-1'"
    )
    for attempt_status, status in (("FAILED", "FAILED"), ("INTENT", "COMPENSATING")):
        one = f"order-{status}"
        shell.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id, status)"
            " select ?, workflow_id, ? from workflow_executions limit 1",
            (one, status),
        )
        shell.execute(
            "insert into step_checkpoints (workflow_execution_id, step_index, attempt, step_name,"
            " status, error_type, error_message)"
            " values (?, 0, 0, 'pay:compensate', ?, 'E', 'broke')",
            (one, attempt_status),
        )
        shell.execute("insert into workflow_tags values (?, 'customer', '7')", (one,))
        shell.execute(
            "insert into workflow_audit_log (workflow_execution_id, act, actor)"
            " values (?, 'retry', 'kim')",
            (one,),
        )
    _add_schedules_queues_and_children(shell)
    shell.execute(CHANGES[0].replace("order-17", "order-WAIT-1"))
    answer = shell.execute(question.replace("order-17", "order-WAIT-1")).fetchall()
    assert answer


def _add_schedules_queues_and_children(shell: sqlite3.Connection) -> None:
    new = (
        "insert into workflow_executions (workflow_execution_id, workflow_id, status, queue,"
        " parent_execution_id) select ?, workflow_id, 'RUNNING', ?, ? from workflow_executions"
        " limit 1"
    )
    shell.execute(
        "insert into workflow_schedules (schedule_name, workflow_type, cron, last_execution_id)"
        " values ('nightly', 'order', '0 3 * * *', 'nightly@now')"
    )
    shell.execute("insert into workflow_limits (kind, name) values ('QUEUE', 'mail')")
    shell.execute("insert into workflow_limits (kind, name) values ('STEP', 'openai')")
    shell.execute(new, ("nightly@now", "mail", None))
    shell.execute(new, ("child", None, "order-WAIT-1"))
    shell.execute(
        "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at, queue)"
        " values ('nightly@now', 'w', strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'), 'mail')"
    )
    shell.execute(
        "insert into workflow_step_slots (name, fencing_token, workflow_execution_id, branch,"
        " step_index, taken_at) select 'openai', fencing_token, workflow_execution_id, '', 0,"
        " claimed_at from workflow_claims where queue = 'mail'"
    )
    shell.execute(
        "insert into workflow_audit_log (scope, name, act, actor)"
        " values ('QUEUE', 'mail', 'pause', 'kim')"
    )
    shell.execute(
        "insert into workflow_worker_queues select worker_number, 'mail' from workflow_workers"
    )


@pytest.mark.parametrize(
    ("write", "rule"),
    [
        ("update workflow_executions set status = 'DONE'", "status_is_known"),
        ("update workflow_timers set status = 'DONE'", "status_is_known"),
        ("update workflow_signals set status = 'DONE'", "status_is_known"),
        ("update step_checkpoints set status = 'DONE'", "status_is_known"),
        ("update workflow_executions set available_at = '2030-01-01'", "available_at_is_a_time"),
        ("update workflow_executions set updated_at = datetime('now')", "updated_at_is_a_time"),
    ],
)
def test_what_a_trigger_of_ones_own_writes_is_checked_too(
    shell: sqlite3.Connection, write: str, rule: str
) -> None:
    shell.execute(CHANGES[0].replace("order-17", "order-WAIT-1"))
    shell.execute(f"create trigger mine after insert on workflow_tags begin {write}; end")
    before = list(shell.iterdump())
    with pytest.raises(sqlite3.IntegrityError, match=rule):
        shell.execute("insert into workflow_tags values ('order-WAIT-1', 'customer', '7')")
    assert list(shell.iterdump()) == before


def test_the_columns_without_a_rule_are_those_that_the_page_names(
    shell: sqlite3.Connection,
) -> None:
    found: set[tuple[str, str]] = set()
    tables = shell.execute(
        "select name, sql from sqlite_schema where type = 'table' and name not glob 'sqlite_*'"
    ).fetchall()
    for table, sql in tables:
        columns = [name for _, name, *_ in shell.execute(f"pragma table_info({table})")]
        found |= {
            (table, name)
            for name in columns
            if re.search("_(at|since)$", name) and f"{name} glob" not in sql
        }
        statuses = [name for name in columns if name == "status"]
        assert all(f"{name} = '" in sql for name in statuses), table
    page = (ROOT / "docs" / "sql.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| a wrong time in a column")]
    named: set[tuple[str, str]] = set()
    for columns_of, table in re.findall("((?:`[a-z_]+`(?:, | and )?)+) of `([a-z_]+)`", row):
        named |= {(table, name) for name in re.findall("`([a-z_]+)`", columns_of)}
    assert named == found


def test_the_overview_explains_a_stuck_order(shell: sqlite3.Connection) -> None:
    (row,) = shell.execute(
        "select status, steps_completed, current_step, waiting_for, signals_pending"
        " from workflow_overview where workflow_execution_id = 'order-WAIT-1'"
    )
    assert row == ("SUSPENDED", 2, "approved", "signal approved", 0)


def test_a_signal_inserted_by_hand_lets_the_order_go_on(
    file: Path, shell: sqlite3.Connection
) -> None:
    with a_worker(file):
        shell.execute(CHANGES[0].replace("order-17", "order-WAIT-1"))
        wait_until(lambda: status_of(file, "order-WAIT-1") == "COMPLETED")


@pytest.mark.campaign
def test_a_signal_with_a_key_is_inserted_once_however_often_the_statement_runs(
    file: Path, shell: sqlite3.Connection
) -> None:
    for _ in range(2):
        shell.execute(CHANGES[1].replace("order-17", "order-WAIT-1"))
    sent = "select count(*) from workflow_signals where signal_key = 'mail-88'"
    assert shell.execute(sent).fetchone() == (1,)
    with a_worker(file):
        wait_until(lambda: status_of(file, "order-WAIT-1") == "COMPLETED")


@pytest.mark.campaign
def test_a_cancel_inserted_by_hand_is_honoured(file: Path, shell: sqlite3.Connection) -> None:
    shell.execute(CHANGES[2].replace("order-17", "order-WAIT-2"))
    with a_worker(file):
        wait_until(lambda: status_of(file, "order-WAIT-2") == "CANCELLED")


@pytest.mark.campaign
def test_a_trigger_of_ones_own_notes_who_edits_a_result(
    file: Path, shell: sqlite3.Connection
) -> None:
    shell.execute(TRIGGERS[0])
    shell.execute(CHANGES[0].replace("order-17", "order-WAIT-1"))
    with a_worker(file):
        wait_until(lambda: status_of(file, "order-WAIT-1") == "COMPLETED")
    # What a worker records is no edit.
    assert shell.execute(
        "select count(*) from workflow_audit_log where act = 'edit'"
    ).fetchall() == [(0,)]
    ((step, before),) = shell.execute(
        "select step_name, output_data from step_checkpoints where kind = 'STEP' and"
        " workflow_execution_id = 'order-WAIT-1' and status = 'COMPLETED' limit 1"
    ).fetchall()
    shell.execute(
        "update step_checkpoints set output_data = '7' where step_name = ? and"
        " workflow_execution_id = 'order-WAIT-1'",
        (step,),
    )
    (act,) = [line for line in lines("show", file, "order-WAIT-1") if line[0] == "act"]
    assert act[1:3] == ["edit", "SQL"]
    details = json.loads(act[4])
    assert (details["step"], details["output before"]) == (step, before)
    assert "\tschema\t" not in run("doctor", file, "--quick").stdout


@pytest.mark.campaign
def test_one_that_is_unblocked_by_hand_is_taken_on(file: Path, shell: sqlite3.Connection) -> None:
    shell.execute(
        "update workflow_executions set blocked_reason = 'killed its worker', recovery_count = 11"
        " where workflow_execution_id = 'order-SLEEP-1'"
    )
    with a_worker(file):
        wait_until(lambda: ["workers", "1"] in lines("status", file))
        wait_until(lambda: not _is_claimed(file, "order-SLEEP-1"))
        shell.execute("pragma busy_timeout = 5000")
        shell.execute(UPDATES[0].replace("order-17", "order-SLEEP-1"))
        wait_until(lambda: _is_claimed(file, "order-SLEEP-1"))


def _is_claimed(file: Path, order_id: str) -> bool:
    return json.loads(run("show", file, order_id, "--json").stdout)["claim"] is not None


@pytest.mark.campaign
def test_a_view_that_was_dropped_keeps_no_worker_from_the_file(
    file: Path, shell: sqlite3.Connection
) -> None:
    shell.execute("drop view workflow_throughput")
    with a_worker(file):
        shell.execute(CHANGES[0].replace("order-17", "order-WAIT-1"))
        wait_until(lambda: status_of(file, "order-WAIT-1") == "COMPLETED")
