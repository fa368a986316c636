"""What else the generator refuses: values that a column never has, and writes without a claim."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import copytree

import pytest

from durable_workflow_sqlite import ExecutionStatus
from generate import MIGRATIONS, QUERIES, ROOT
from generate_queries import QueriesError, generate
from list_file import read_lists

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
            "and status not in ('COMPLETED', 'FAILED', 'CANCELLED')",
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
