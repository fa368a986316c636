"""What else the generator refuses: values that a column never has, and writes without a claim."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import copytree

import pytest

from durable_workflow_sqlite import ExecutionStatus, records
from generate import MIGRATIONS, QUERIES, ROOT
from generate_queries import QueriesError, generate
from list_file import read_lists
from query_literals import SIGNALS

LISTS = ROOT / "sql/lists.sql"


@pytest.fixture
def sql(tmp_path: Path) -> Path:
    """A copy of sql/, to be changed."""
    return Path(copytree(ROOT / "sql", tmp_path / "sql"))


def refusal(sql: Path) -> str:
    with pytest.raises(QueriesError) as caught:
        generate(sql / QUERIES.name, sql / MIGRATIONS.name)
    return str(caught.value)


def change(file: Path, name: str, right: str, wrong: str) -> int:
    """Change a text in a query, or in a view; return the line that it stood in.

    The other files of queries, which are well, are deleted.
    """
    for other in file.parents[1].glob("queries/*.sql"):
        if other != file:
            other.unlink()
    text = file.read_text(encoding="utf-8")
    start = text.index(f"-- name: {name}\n" if file.parent.name == "queries" else "create view")
    place = text.index(right, start)
    file.write_text(text[:place] + text[place:].replace(right, wrong, 1), encoding="utf-8")
    return text[:place].count("\n") + 1


# Values


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("file", "name", "right", "wrong", "why"),
    [
        (
            "queries/workflow_timers.sql",
            "load_pending_timers",
            "status = 'PENDING'",
            "status = 'OPEN'",
            "'OPEN' is no status of workflow_timers; it is one of PENDING, FIRED, CANCELLED",
        ),
        # Each status is one of another table's.
        (
            "queries/workflow_executions.sql",
            "unblock_execution!",
            "status in ('PENDING'",
            "status in ('INTENT'",
            "'INTENT' is no status of workflow_executions",
        ),
        (
            "queries/workflow_executions.sql",
            "take_from_queue!",
            "status = 'COMPENSATING'",
            "status = 'DELIVERED'",
            "'DELIVERED' is no status of workflow_executions",
        ),
        (
            "queries/workflow_executions.sql",
            "load_at_work",
            "'FAILED', 'INTENT')",
            "'FAILED', 'PENDING')",
            "'PENDING' is no status of step_checkpoints",
        ),
        (
            "queries/workflow_executions.sql",
            "take_execution^",
            "timer.status = 'PENDING'",
            "timer.status = 'RUNNING'",
            "'RUNNING' is no status of workflow_timers",
        ),
        (
            "queries/workflow_executions.sql",
            "upsert_execution!",
            "workflow_executions.status not in ('COMPLETED'",
            "workflow_executions.status not in ('EXPIRED'",
            "'EXPIRED' is no status of workflow_executions",
        ),
        (
            "queries/inspection.sql",
            "count_in_trouble$",
            "'COMPLETED', 'FAILED', 'CANCELLED'",
            "'COMPLETED', 'FAILED', 'CANCELED'",
            "'CANCELED' is no status of workflow_executions",
        ),
        (
            "queries/inspection.sql",
            "load_steps_cut_off",
            "status != 'COMPLETED'",
            "status != 'COMPENSATED'",
            "'COMPENSATED' is no status of workflow_executions",
        ),
        (
            "queries/inspection.sql",
            "load_refused_signals",
            "wait.kind = 'SIGNAL'",
            "wait.kind = 'WAIT'",
            "'WAIT' is no kind of step_checkpoints",
        ),
        (
            "views/workflow_in_doubt.sql",
            "",
            "undone.status = 'COMPENSATED'",
            "undone.status = 'CANCELLED'",
            "'CANCELLED' is no status of step_checkpoints",
        ),
        (
            "queries/inspection.sql",
            "count_in_trouble$",
            "'COMPLETED', 'FAILED', 'CANCELLED'",
            "'COMPLETED', 'CANCELLED'",
            "COMPLETED, CANCELLED is no list of workflow_executions.status in sql/lists.sql; use",
        ),
        (
            "queries/inspection.sql",
            "count_in_trouble$",
            "'COMPLETED', 'FAILED', 'CANCELLED'",
            "'FAILED', 'COMPLETED', 'CANCELLED'",
            "in sql/lists.sql; write it as COMPLETED, FAILED, CANCELLED",
        ),
        (
            "queries/inspection.sql",
            "pick_oldest_unfinished",
            '"PENDING", "RUNNING", ',
            '"PENDING", ',
            "PENDING, SUSPENDED, COMPENSATING is no list of any column in sql/lists.sql",
        ),
    ],
)
def test_a_value_that_a_column_never_has_is_refused(
    sql: Path, file: str, name: str, right: str, wrong: str, why: str
) -> None:
    line = change(sql / file, name, right, wrong)
    message = refusal(sql)
    assert re.match(rf"{sql / file}:{line}: ", message)
    assert why in message


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (
            "insert into workflow_signals (workflow_execution_id, signal_name, status)\n"
            "values (:workflow_execution_id, 'FIRED', 'PENDNG');",
            "'PENDNG' is no status of workflow_signals",
        ),
        (
            "insert into workflow_signals (signal_name, status)\n"
            "values (:signal_name, 'PENDING'), (:signal_name, 'FIRED');",
            "'FIRED' is no status of workflow_signals",
        ),
        (
            "insert into workflow_signals (signal_name, workflow_execution_id, status)\nselect\n"
            "    'x',\n    coalesce(one.workflow_execution_id, ''),\n    iif(one.status ="
            " 'COMPLETED', 'EXPIRD', 'PENDING')\nfrom workflow_executions as one;",
            "'EXPIRD' is no status of workflow_signals",
        ),
        (
            "update workflow_timers\nset status = case when fire_at > :fire_at then 'FIRED'"
            " else 'LATE' end\nwhere workflow_timer_id = :workflow_timer_id;",
            "'LATE' is no status of workflow_timers",
        ),
        (
            "select status\nfrom workflow_signals\nwhere signal_name = '$cancle';",
            "'$cancle' is no signal of the library; these are $cancel, $child:, $mended",
        ),
    ],
)
def test_a_value_that_is_written_must_be_known(sql: Path, statement: str, why: str) -> None:
    for other in (sql / "queries").glob("*.sql"):
        other.unlink()
    file = sql / "queries/workflow_signals.sql"
    operation = "" if statement.startswith("select") else "!"
    header = f"-- A paragraph.\n\n-- name: try{operation}\n-- Tries it.\n"
    unfenced = "" if operation == "" else "-- @unfenced: a try\n"
    file.write_text(header + unfenced + statement + "\n", encoding="utf-8")
    assert why in refusal(sql)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (
            "create trigger trg_try after update of status on workflow_executions\n"
            "when new.status = 'CANCELED'\nbegin\n    delete from workflow_tags\n    where"
            " workflow_execution_id = new.workflow_execution_id;\nend;\n",
            "trigger trg_try: 'CANCELED' is no status of workflow_executions",
        ),
        (
            "create trigger trg_try after delete on workflow_executions\nbegin\n"
            "    insert into workflow_signals (workflow_execution_id, signal_name, status)\n"
            "    values (old.parent_execution_id, 'x', 'OPEN');\nend;\n",
            "trigger trg_try: 'OPEN' is no status of workflow_signals",
        ),
        (
            "create index idx_try on workflow_executions (created_at)\nwhere status = 'PENDIN';\n",
            "index idx_try: 'PENDIN' is no status of workflow_executions",
        ),
        (
            "create table notes (note_id integer primary key);\n",
            "table notes: end its statement with `) strict;`",
        ),
        (
            "alter table workflow_executions add column seen_at text;\n",
            "table workflow_executions: nothing checks what seen_at holds; write `constraint"
            " seen_at_is_a_time check (...)`",
        ),
        (
            "alter table workflow_executions add column more_data text;\n",
            "nothing checks what more_data holds; write `constraint more_data_is_json check (...)`",
        ),
        (
            "create table notes (\n    note_id integer primary key,\n    status text not null\n"
            ") strict;\n",
            "table notes: nothing checks what status holds; write `constraint status_is_known",
        ),
        (
            "create table notes (\n    note_id integer primary key,\n    of text not null"
            " references workflow_executions (workflow_execution_id)\n) strict;\n",
            "table notes: of refers to another table; create an index that begins with it",
        ),
    ],
)
def test_a_mistake_in_a_new_migration_is_refused(sql: Path, statement: str, why: str) -> None:
    last = sorted((sql / "migrations").glob("*.sql"))[-1]
    new = last.with_name(f"{int(last.name[:3]) + 1:03}_try_it.sql")
    new.write_text(f"-- Tries it.\n\n{statement}", encoding="utf-8")
    message = refusal(sql)
    assert message.startswith(f"{new}:3: ")
    assert why in message


def test_the_signals_are_those_of_the_library() -> None:
    assert set(SIGNALS) == {
        value for name, value in vars(records).items() if name.endswith("_SIGNAL")
    }


def test_the_lists_are_those_of_the_library() -> None:
    lists = read_lists(LISTS)["workflow_executions", "status"]
    assert set(lists["unfinished"]) == {one for one in ExecutionStatus if not one.is_terminal}
    assert set(lists["final"]) == {one for one in ExecutionStatus if one.is_terminal}


def test_a_list_with_a_value_that_its_column_never_has_is_refused(sql: Path) -> None:
    lists = sql / LISTS.name
    lists.write_text(lists.read_text().replace("FIRED, CANCELLED:", "FIRED, CANCELED:"))
    wrong = f"{lists}: workflow_timers.status, `past`: CANCELED is no status of workflow_timers"
    assert wrong in refusal(sql)


# Claims

_CONDITION = """and exists (
        select 1
        from workflow_claims
        where
            fencing_token = :fencing_token
            and workflow_execution_id = :workflow_execution_id
    )"""


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("file", "name", "right", "wrong", "why"),
    [
        # The whole condition is lost.
        ("workflow_executions", "update_execution!", _CONDITION, "", "checks no claim"),
        # It compares something else, or nothing.
        (
            "workflow_executions",
            "update_execution!",
            "fencing_token = :fencing_token",
            "fencing_token >= :fencing_token",
            "does not refuse one that is not the claim's",
        ),
        (
            "workflow_timers",
            "upsert_timer!",
            "            and workflow_execution_id = :workflow_execution_id\n",
            "",
            "does not refuse one",
        ),
        ("workflow_signals", "refuse_signal!", "and (\n", "or (\n", "does not refuse one"),
        (
            "workflow_executions",
            "update_execution!",
            "and status != 'COMPLETED'",
            "or status = 'PENDING'",
            "does not refuse one",
        ),
        (
            "step_checkpoints",
            "upsert_checkpoint!",
            ":fencing_token is null\n    or exists",
            ":step_name = ''\n    or :fencing_token is null\n    or exists",
            "does not refuse one",
        ),
        (
            "workflow_step_slots",
            "delete_step_slot!",
            "    and fencing_token = :fencing_token\n",
            "",
            "it writes workflow_step_slots and checks no claim",
        ),
        (
            "workflow_step_slots",
            "insert_step_slot!",
            "    and workflow_execution_id = :workflow_execution_id\n",
            "",
            "does not refuse one",
        ),
        ("workflow_claims", "delete_claim!", "= :fencing_token", "<= :fencing_token", "does not"),
        # It may be null, or must not be.
        (
            "step_checkpoints",
            "upsert_checkpoint!",
            "-- :fencing_token integer null\n",
            "",
            "`exists",
        ),
        # What it says of itself is not so.
        (
            "workflow_executions",
            "unblock_execution!",
            "-- @unfenced: no worker has what is blocked\n",
            "",
            "it writes workflow_executions and checks no claim",
        ),
        (
            "step_checkpoints",
            "upsert_checkpoint!",
            "-- :fencing_token",
            "-- @unfenced: it is quick\n-- :fencing_token",
            "it takes a :fencing_token; delete `-- @unfenced",
        ),
        (
            "workflow_tags",
            "delete_tags!",
            "-- :workflow_execution_ids",
            "-- @unfenced: nobody has them\n-- :workflow_execution_ids",
            "no write here is under a claim; delete `-- @unfenced",
        ),
    ],
)
def test_a_write_that_checks_no_claim_is_refused(
    sql: Path, file: str, name: str, right: str, wrong: str, why: str
) -> None:
    path = sql / "queries" / f"{file}.sql"
    change(path, name, right, wrong)
    message = refusal(sql)
    assert re.match(rf"{path}:\d+: {name.rstrip('!')}: ", message)
    assert why in message
