"""Version 11: the tables refuse what the library could not read, and keep what they held."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite.store.in_memory import open_in_memory
from durable_workflow_sqlite.store.migrations import SCHEMA_VERSION, migrate
from tests.migrations.content import migrate_to

NOON = "2026-01-01T12:00:00.000000Z"


@pytest.fixture
def strict() -> Iterator[sqlite3.Connection]:
    """A database of today, with one of each."""
    with closing(open_in_memory()) as connection:
        connection.execute("pragma foreign_keys = on")
        for statement in (
            "insert into workflows (workflow_id, workflow_type) values ('order:1', 'order')",
            "insert into workflow_executions (workflow_execution_id, workflow_id, input_data)"
            " values ('e', 'order:1', '[]')",
            "insert into step_checkpoints (workflow_execution_id, step_index, step_name, status)"
            " values ('e', 0, 'pay', 'INTENT')",
            "insert into workflow_timers (workflow_timer_id, workflow_execution_id, step_name,"
            f" fire_at) values ('t', 'e', 'rest', '{NOON}')",
            "insert into workflow_signals (workflow_execution_id, signal_name) values ('e', 'go')",
            "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
            f" values ('e', 'w', '{NOON}')",
            "insert into workflow_tags values ('e', 'customer', '7')",
            "insert into workflow_patches (workflow_execution_id, patch_name)"
            " values ('e', 'add-tax')",
            "insert into workflow_audit_log (workflow_execution_id, act, actor)"
            " values ('e', 'retry', 'kim')",
        ):
            connection.execute(statement)
        yield connection


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("update workflows set version = 0", "version_is_1_or_more"),
        ("update workflows set workflow_type = ''", "workflow_type_is_not_empty"),
        ("update workflow_executions set workflow_execution_id = null", "NOT NULL"),
        ("update workflow_executions set status = 'PAUSED'", "status_is_known"),
        ("update workflow_executions set guarantee = 'PERHAPS'", "guarantee_is_known"),
        ("update workflow_executions set input_data = '[1'", "input_data_is_json"),
        ("update workflow_executions set output_data = 'kim'", "output_data_is_json"),
        ("update workflow_executions set input_data = x'5b5d'", "cannot store BLOB"),
        ("update workflow_executions set priority = 'high'", "cannot store TEXT"),
        ("update workflow_executions set current_step = -1", "current_step_is_0_or_more"),
        ("update workflow_executions set recovery_count = -1", "recovery_count_is_0_or_more"),
        ("update workflow_executions set last_event = -1", "last_event_is_0_or_more"),
        ("update workflow_executions set available_at = 'now'", "available_at_is_a_time"),
        (
            "update workflow_executions set available_at = datetime('now')",
            "available_at_is_a_time",
        ),
        (
            "update workflow_executions set ttl_expires_at = julianday('now')",
            "ttl_expires_at_is_a_time",
        ),
        ("update workflow_executions set created_at = '12:00'", "created_at_is_a_time"),
        ("update step_checkpoints set status = 'DONE'", "status_is_known"),
        ("update step_checkpoints set kind = 'OTHER'", "kind_is_known"),
        ("update step_checkpoints set output_data = 'kim'", "output_data_is_json"),
        ("update step_checkpoints set attempt = -1", "attempt_is_0_or_more"),
        ("update step_checkpoints set event = 0", "event_is_1_or_more"),
        ("update step_checkpoints set event = 'first'", "cannot store TEXT"),
        ("update step_checkpoints set due_at = 'tomorrow'", "due_at_is_a_time"),
        ("update workflow_timers set workflow_timer_id = null", "NOT NULL"),
        ("update workflow_timers set fire_at = '2030-01-01'", "fire_at_is_a_time"),
        ("update workflow_timers set status = 'OVER'", "status_is_known"),
        ("update workflow_signals set payload = 'kim'", "payload_is_json"),
        ("update workflow_signals set signal_name = ''", "signal_name_is_not_empty"),
        ("update workflow_signals set created_at = 2461042.5", "created_at_is_a_time"),
        ("update workflow_claims set worker_id = null", "NOT NULL"),
        ("update workflow_tags set name = ''", "name_is_not_empty"),
        ("update workflow_patches set patch_name = ''", "patch_name_is_not_empty"),
        ("update workflow_patches set event = -1", "event_is_0_or_more"),
        ("update workflow_patches set passed_at = 2461042.5", "passed_at_is_a_time"),
        ("update workflow_audit_log set details = 'because'", "details_is_json"),
        ("update workflow_audit_log set actor = null", "NOT NULL"),
        ("delete from workflow_executions", "FOREIGN KEY"),
    ],
)
def test_a_mistake_is_refused_and_says_which_rule_it_breaks(
    strict: sqlite3.Connection, statement: str, says: str
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=says):
        strict.execute(statement)


def test_every_table_is_strict(strict: sqlite3.Connection) -> None:
    tables = strict.execute("pragma main.table_list").fetchall()
    ours = {name: is_strict for _, name, kind, _, _, is_strict in tables if kind == "table"}
    assert {name for name, is_strict in ours.items() if not is_strict} <= {
        "sqlite_schema",
        "sqlite_sequence",
    }


def test_a_default_time_has_the_form_of_all_others(strict: sqlite3.Connection) -> None:
    (at,) = strict.execute("select created_at from workflow_signals").fetchone()
    assert len(at) == len(NOON)
    assert at.endswith("000Z")


@pytest.fixture
def old(file: Path) -> Iterator[sqlite3.Connection]:
    """A file of version 10."""
    migrate_to(file, 10)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("insert into workflows values ('order:1', 'order', 1, ?)", (NOON,))
        connection.execute(
            "insert into workflow_executions (workflow_execution_id, workflow_id, created_at,"
            " updated_at) values ('e', 'order:1', ?, ?)",
            (NOON, NOON),
        )
        yield connection


def test_no_token_and_no_signal_id_is_given_twice(old: sqlite3.Connection) -> None:
    for number in range(3):
        old.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name) values ('e', ?)",
            (f"s{number}",),
        )
        old.execute("delete from workflow_claims")
        old.execute(
            "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
            " values ('e', 'w', ?)",
            (NOON,),
        )
    old.execute("delete from workflow_claims")  # the last token is known by its sequence alone
    old.execute("delete from workflow_signals where workflow_signal_id = 3")
    migrate(old)
    old.execute(
        "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
        " values ('e', 'w', ?)",
        (NOON,),
    )
    old.execute(
        "insert into workflow_signals (workflow_execution_id, signal_name) values ('e', 'new')"
    )
    assert old.execute("select fencing_token from workflow_claims").fetchall() == [(4,)]
    assert old.execute("select max(workflow_signal_id) from workflow_signals").fetchone() == (4,)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2026-01-01T12:00:00.123456Z", "2026-01-01T12:00:00.123456Z"),
        ("2026-01-01T12:00:00.123", "2026-01-01T12:00:00.123000Z"),
        ("2026-01-01 12:00:00", "2026-01-01T12:00:00.000000Z"),
        ("2026-01-01T14:00:00+02:00", "2026-01-01T12:00:00.000000Z"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_get_one_form(old: sqlite3.Connection, before: str, after: str) -> None:
    old.execute("update workflow_executions set available_at = ?, updated_at = ?", (before, before))
    old.execute(
        "insert into workflow_timers (workflow_timer_id, workflow_execution_id, step_name, fire_at)"
        " values ('t', 'e', 'rest', ?)",
        (before,),
    )
    migrate(old)
    found = old.execute(
        "select available_at, updated_at, status_since, fire_at from workflow_executions"
        " natural join (select workflow_execution_id, fire_at from workflow_timers)"
    ).fetchone()
    assert found == (after,) * 4


def test_what_was_broken_by_hand_is_kept_and_stands_in_nobodys_way(
    old: sqlite3.Connection,
) -> None:
    old.execute("update workflow_executions set guarantee = 'PERHAPS', current_step = null")
    old.execute(
        "insert into workflow_executions (workflow_execution_id, workflow_id, input_data)"
        " values (null, 'order:1', x'5b5d')"
    )
    old.execute(
        "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
        " values ('e', 'go', 'kim')"
    )
    assert migrate(old)[-1] == SCHEMA_VERSION
    rows = old.execute(
        "select workflow_execution_id, guarantee, current_step, input_data"
        " from workflow_executions order by rowid"
    ).fetchall()
    assert rows == [("e", "PERHAPS", 0, None), ("unnamed 2", "FOREGROUND_ONLY", 0, "[]")]
    assert old.execute("select payload from workflow_signals").fetchall() == [("kim",)]
    # It can still be changed for the better, and goes on where nothing of it is wrong.
    old.execute("update workflow_executions set status = 'RUNNING' where guarantee = 'PERHAPS'")
    old.execute("update workflow_signals set payload = '\"kim\"'")
    problems = [text for (text,) in old.execute("pragma integrity_check")]
    assert problems == ["CHECK constraint failed in workflow_executions"]


def test_a_value_of_another_type_in_a_key_is_for_its_owner_to_mend(
    old: sqlite3.Connection,
) -> None:
    old.execute(
        "insert into step_checkpoints (workflow_execution_id, step_index, step_name, status)"
        " values ('e', 'first', 'pay', 'INTENT')"
    )
    with pytest.raises(Exception, match=r"011_make_tables_strict.*step_index"):
        migrate(old)
    assert old.execute("pragma user_version").fetchone() == (10,)
    old.execute("update step_checkpoints set step_index = 0")
    assert migrate(old)[-1] == SCHEMA_VERSION
