"""pause and resume: executions, a workflow, everything; and how every command says it."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import (
    ROOT,
    a_worker,
    lines,
    on_terminal,
    refusal,
    run,
    status_of,
    wait_until,
)

ONE = "order-WAIT-1"


def shown(file: Path, execution_id: str) -> dict[str, Any]:
    found = json.loads(run("show", file, execution_id, "--json").stdout)
    summary: dict[str, Any] = found["summary"]
    return summary


def ids(file: Path, *options: str) -> list[str]:
    return sorted(run("list", file, "--all", "-o", "id", *options).stdout.split())


def test_a_paused_order_waits_although_its_signal_came_and_continues_when_resumed(
    file: Path,
) -> None:
    done = run("pause", file, ONE, "--reason", "the bank is closed")
    assert done.stdout == (
        f"{ONE} is paused, with what is below it: a step that runs ends, and no other begins until"
        f" `durable-workflow resume {file} {ONE}`\n"
    )
    with a_worker(file):
        run("signal", file, ONE, "approved")
        run("signal", file, "order-WAIT-2", "approved")
        wait_until(lambda: status_of(file, "order-WAIT-2") == "COMPLETED")
        found = shown(file, ONE)
        assert (found["status"], found["paused_scope"]) == ("SUSPENDED", "EXECUTION")
        assert found["signals_pending"] == 1
        assert run("resume", file, ONE).returncode == 0
        wait_until(lambda: status_of(file, ONE) == "COMPLETED")
    acts = [line[1:3] for line in lines("show", file, ONE) if line[0] == "act"]
    assert [act for act, _ in acts] == ["pause", "resume"]


def test_every_command_says_what_is_paused_since_when_by_whom_and_why(file: Path) -> None:
    run("pause", file, ONE, "--reason", "the bank is closed")
    run("pause", file, "--workflow", "order", "--reason", "we move")
    found = shown(file, ONE)
    assert found["paused_reason"] == "the bank is closed"
    assert found["paused_at"].endswith("Z") and "@" in found["paused_by"]
    other = shown(file, "order-WAIT-2")
    assert (other["paused_scope"], other["paused_reason"]) == ("WORKFLOW", "we move")
    over = shown(file, "order-A-1")
    assert (over["status"], over["paused_at"]) == ("COMPLETED", None)
    for execution, scope, says, resume in (
        (ONE, "", "the bank is closed", f"resume {file} {ONE}"),
        ("order-WAIT-2", "workflow order ", "we move", f"resume {file} --workflow order"),
    ):
        _, page = on_terminal("show", file, execution, columns=250)
        assert "PAUSED" in page and f"{scope}since 20" in page and says in page
        assert f"to let it go on: durable-workflow {resume}" in page
        _, table = on_terminal("list", file, "--id", execution, columns=250)
        assert "paused: " in table and says in table
        (line,) = lines("list", file, "--id", execution)
        assert line[16].startswith("20") and "@" in line[17] and line[18] == says
        (line,) = lines("list", file, "-o", "wide", "--id", execution)
        assert line[-3].startswith("20") and "@" in line[-2] and line[-1] == says
    for command in ("status", "workers"):
        _, page = on_terminal(command, file, columns=250)
        assert "workflow order" in page and "we move" in page
        assert "paused executions: 1" in page and ONE in page and "the bank is closed" in page
        paused = json.loads(run(command, file, "--json").stdout)["paused"]
        assert [one["paused_reason"] for one in paused["wholes"]] == ["we move"]
        assert [one["paused_reason"] for one in paused["executions"]] == ["the bank is closed"]
    told = [line[:3] for line in lines("status", file) if line[0] == "paused"]
    assert told == [["paused", "WORKFLOW", "order"], ["paused", "EXECUTION", ONE]]
    status_json = json.loads(run("status", file, "--json").stdout)
    assert status_json["paused"]["executions_total"] == 1
    (queue,) = [one for one in status_json["queues"] if one["workflow_type"] == "order"]
    parts = ("due", "running", "waiting", "paused", "in_trouble", "blocked")
    assert sum(queue[part] for part in parts) == queue["unfinished"]
    assert (queue["due"], queue["waiting"]) == (0, 0)
    listed = run("doctor", file, "--verbose").stdout
    assert "workflow order is paused since" in listed
    assert f"1 execution paused: {ONE} (since" in listed
    assert ids(file, "--paused") == [ONE]
    with closing(sqlite3.connect(file)) as shell:
        view = shell.execute(
            "select scope, workflow_execution_id, workflow_type, paused_reason"
            " from workflow_paused order by scope"
        ).fetchall()
    assert view == [
        ("EXECUTION", ONE, "order", "the bank is closed"),
        ("WORKFLOW", None, "order", "we move"),
    ]


def test_a_queue_is_paused_shown_by_every_command_and_resumed(file: Path) -> None:
    run("queue", "set", file, "mail", "--concurrency", "1", "--add")
    run("start", file, "order", '["A-9"]', "--id", "in-mail", "--queue", "mail")
    assert "would pause queue mail" in run("pause", file, "--queue", "mail", "--dry-run").stdout
    resume = f"durable-workflow resume {file} --queue mail"
    done = run("pause", file, "--queue", "mail", "--reason", "we move")
    assert done.stdout == f"queue mail is paused; `{resume}` ends that\n"
    assert "queue mail was paused already, since" in run("pause", file, "--queue", "mail").stdout
    found = shown(file, "in-mail")
    assert (found["paused_scope"], found["queue"]) == ("QUEUE", "mail")
    assert found["paused_reason"] == "we move"
    assert shown(file, ONE)["paused_scope"] is None
    _, page = on_terminal("show", file, "in-mail", columns=250)
    assert "PAUSED" in page and "queue mail since 20" in page
    assert f"to let it go on: {resume}" in page
    _, table = on_terminal("list", file, "--id", "in-mail", columns=250)
    assert "paused: queue mail since" in table
    _, status = on_terminal("status", file, columns=250)
    assert "queue mail" in status and "we move" in status
    told = [line[:3] for line in lines("status", file) if line[0] == "paused"]
    assert told == [["paused", "QUEUE", "mail"]]
    (queue,) = json.loads(run("status", file, "--json").stdout)["queues"]
    parts = ("due", "running", "waiting", "paused", "in_trouble", "blocked")
    assert sum(queue[part] for part in parts) == queue["unfinished"]
    assert (queue["due"], queue["paused"]) == (0, 1)
    assert lines("queue", "list", file)[0][8].startswith("20")
    listed = run("doctor", file, "--verbose").stdout
    assert "queue mail is paused since" in listed
    assert "resume FILE --queue mail" in listed or resume in listed
    with closing(sqlite3.connect(file)) as shell:
        view = shell.execute("select scope, workflow_type, queue from workflow_paused").fetchall()
        assert view == [("QUEUE", None, "mail")]
        (paused_by,) = shell.execute("select paused_by from workflow_named_queues").fetchone()
        assert "@" in paused_by
    with a_worker(file):
        run("start", file, "order", '["A-8"]', "--id", "free")
        wait_until(lambda: status_of(file, "free") == "COMPLETED")
        assert shown(file, "in-mail")["status"] == "PENDING"
        assert run("resume", file, "--queue", "mail").stdout == "queue mail is resumed\n"
        wait_until(lambda: status_of(file, "in-mail") == "COMPLETED")
    assert "is not paused" in refusal("resume", file, "--queue", "mail")
    assert "did you mean 'mail'" in refusal("pause", file, "--queue", "mal")
    for usage in (
        ("pause", file, "--queue", "mail", ONE),
        ("pause", file, "--queue", "mail", "--workflow", "order"),
        ("resume", file, "--queue", "mail", "--status", "failed"),
        ("resume", file, "--queue", "mail", "--all"),
    ):
        assert run(*usage).returncode == 2


def test_pausing_again_says_so_and_changes_only_the_reason(file: Path) -> None:
    run("pause", file, ONE, "--reason", "first")
    again = run("pause", file, ONE)
    assert again.returncode == 0
    assert again.stdout.startswith(f"{ONE} was paused already, since 20")
    assert again.stdout.endswith(": first\n")
    assert run("pause", file, ONE, "--reason", "second").stdout.endswith(": second\n")
    run("pause", file, "--all", "--reason", "first")
    assert "everything was paused already, since" in run("pause", file, "--all").stdout


def test_what_is_not_paused_or_over_is_refused(file: Path) -> None:
    assert "is not paused itself" in refusal("resume", file, ONE)
    assert "is finished (COMPLETED); it was not paused" in refusal("pause", file, "order-A-1")
    assert "is not paused" in refusal("resume", file, "--all")
    assert "is not paused" in refusal("resume", file, "--workflow", "order")
    assert "did you mean 'order'" in refusal("pause", file, "--workflow", "ordr")
    for usage in (
        ("pause", file, "--workflow", "order", ONE),
        ("pause", file, "--workflow", "order", "--status", "failed"),
        ("pause", file, "--all", "--type", "order"),
        ("resume", file, "--all", ONE),
        ("pause", file),
    ):
        assert run(*usage).returncode == 2


def test_options_choose_which_executions_are_paused_and_resumed(file: Path) -> None:
    waiting = ["order-SLEEP-1", "order-WAIT-1", "order-WAIT-2"]
    assert run("pause", file, "--status", "suspended").returncode == 1  # nobody can be asked
    done = run("pause", file, "--status", "suspended", "--yes", "--reason", "we move")
    assert done.stdout.splitlines()[-1] == "paused 3"
    assert ids(file, "--paused") == waiting
    assert run("resume", file, "--id", "order-WAIT", "--dry-run").stdout.split() == [
        "order-WAIT-2",
        "order-WAIT-1",
    ]
    assert run("resume", file, "--id", "order-WAIT", "--yes").stdout == "resumed 2\n"
    assert ids(file, "--paused") == ["order-SLEEP-1"]
    assert run("resume", file, "--paused", "--yes").stdout == "resumed 1\n"
    assert ids(file, "--paused") == []


def test_everything_stops_and_goes_on(file: Path) -> None:
    assert "would pause everything" in run("pause", file, "--all", "--dry-run").stdout
    assert lines("status", file)
    resume = f"durable-workflow resume {file} --all"
    assert run("pause", file, "--all").stdout == f"everything is paused; `{resume}` ends that\n"
    run("start", file, "order", '["A-9"]', "--id", "order-A-9")
    run("signal", file, "order-WAIT-2", "approved")
    with a_worker(file):
        assert shown(file, "order-A-9")["paused_scope"] == "ALL"
        assert run("resume", file, "--all").stdout == "everything is resumed\n"
        for one in ("order-A-9", "order-WAIT-2"):
            wait_until(lambda one=one: status_of(file, one) == "COMPLETED")


def test_cancel_of_a_paused_order_ends_its_pause(file: Path) -> None:
    run("pause", file, ONE)
    with a_worker(file):
        assert run("cancel", file, ONE).returncode == 0
        wait_until(lambda: status_of(file, ONE) == "CANCELLED")
    assert ids(file, "--paused") == []


@pytest.mark.campaign
def test_the_statements_of_the_page_pause_and_resume_a_workflow(file: Path) -> None:
    page = (ROOT / "docs" / "pausing.md").read_text()
    question, changes = re.findall(r"^```sql\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    insert, delete = changes.split("\n\n")
    with closing(sqlite3.connect(file, isolation_level=None)) as shell:
        shell.execute("pragma wal_autocheckpoint = 0")
        shell.execute("pragma busy_timeout = 5000")
        with a_worker(file):
            shell.execute(insert)
            (paused,) = shell.execute(question).fetchall()
            assert (paused[0], paused[2], paused[4]) == ("WORKFLOW", "order", "kim")
            run("start", file, "order", '["A-9"]', "--id", "order-A-9")
            assert shown(file, "order-A-9")["paused_reason"] == "the carrier is on strike"
            shell.execute(delete)
            wait_until(lambda: status_of(file, "order-A-9") == "COMPLETED")


def test_a_pause_that_holds_executions_for_over_a_day_is_a_warning(file: Path) -> None:
    run("pause", file, "--workflow", "order", "--reason", "we move")
    run("pause", file, ONE, "--reason", "the bank is closed")
    # Nothing waits for the end of this one.
    edit = "insert into workflow_pauses (scope, name, paused_by) values ('WORKFLOW', 'no', 'kim')"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(edit)

        def of(check: str) -> list[str]:
            done = run("doctor", file, "--verbose").stdout.splitlines()
            return [line.split("\t")[0] for line in done if line.split("\t")[1] == check]

        assert of("paused") == ["note", "note", "note"]
        old = "'2026-01-01T00:00:00.000000Z'"
        connection.execute(f"update workflow_pauses set paused_at = {old}")
        connection.execute(
            f"update workflow_executions set paused_at = {old} where paused_at is not null"
        )
        assert sorted(of("paused")) == ["note", "warning", "warning"]
