"""The commands of the named queues, and a worker that serves one."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.cli.conftest import a_worker, lines, on_terminal, refusal, run, wait_until


def limits(file: Path) -> list[list[str]]:
    return [line[:4] for line in lines("queue", "list", file)]


def test_limits_are_shown_and_changed(file: Path) -> None:
    assert lines("queue", "list", file) == []
    assert "no queue 'mail' is declared" in refusal("queue", "set", file, "mail", "--per-key", "1")
    lines("queue", "set", file, "mail", "--concurrency", "3", "--per-key", "1", "--add")
    lines("queue", "set", file, "mail", "--concurrency", "none", "--per-worker", "2")
    assert limits(file) == [["mail", "", "2", "1"]]
    assert "did you mean 'mail'?" in refusal("queue", "set", file, "mal", "--per-key", "2")
    for wrong in ("0", "-1", "x", "1.5"):
        assert "--per-key must be" in refusal("queue", "set", file, "mail", f"--per-key={wrong}")
    assert limits(file) == [["mail", "", "2", "1"]]
    for wrong in ("0/1", "5", "5/0", "x/1", "5/-1"):
        assert "--rate must be" in refusal("queue", "set", file, "mail", f"--rate={wrong}")
    lines("queue", "set", file, "mail", "--rate", "100/60", "--key-rate", "1/0.5")
    lines("queue", "set", file, "mail", "--concurrency", "4")
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute(
            "select concurrency, rate, rate_seconds, key_rate, key_rate_seconds"
            " from workflow_limits"
        ).fetchall()
    assert found == [(4, 100, 60.0, 1, 0.5)]
    lines("queue", "set", file, "mail", "--concurrency", "none", "--rate", "none")
    code, text = on_terminal("queue", "list", file)
    assert code == 0
    assert "per worker" in text
    assert "mail" in text


def test_what_is_in_a_queue_is_shown_and_run_by_a_worker_that_serves_it(file: Path) -> None:
    lines("queue", "set", file, "mail", "--concurrency", "1", "--add")
    assert "no queue 'mial' is declared; did you mean 'mail'?" in refusal(
        "start", file, "order", '"B-1"', "--queue", "mial"
    )
    assert run("start", file, "order", '"B-1"', "--key", "kim").returncode == 1
    for number in range(3):
        words = ["--queue", "mail", "--key", "kim", "--id", f"in-mail-{number}"]
        lines("start", file, "order", f'"B-{number}"', *words)
    ((*_, running, due, since, later, _),) = lines("queue", "list", file)
    assert (running, due, later) == ("0", "3", "0")
    assert since
    with a_worker(file):
        wait_until(lambda: [line[4:6] for line in lines("queue", "list", file)] == [["0", "0"]])
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute(
            "select distinct status, queue, queue_key from workflow_executions"
            " where workflow_execution_id glob 'in-mail-*'"
        ).fetchall()
    assert found == [("COMPLETED", "mail", "kim")]


def test_one_that_waits_for_a_slot_says_so_and_who_has_held_one_longest(file: Path) -> None:
    lines("queue", "set", file, "mail", "--concurrency", "1", "--add")
    for one in ("holds", "waits"):
        lines("start", file, "order", f'"{one}"', "--queue", "mail", "--id", one)
    _, text = on_terminal("show", file, "waits", columns=250)
    assert re.search(r"^queue +mail +$", text, re.MULTILINE)
    assert "waits for     worker with a slot of queue mail" in text
    assert "queue set" not in text
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(
            "update workflow_executions set status = 'RUNNING', available_at = null"
            " where workflow_execution_id = 'holds';"
            "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at, queue)"
            " values ('holds', 'w', '2026-01-01T00:00:00.000000Z', 'mail')"
        )
    _, text = on_terminal("show", file, "waits", columns=250)
    assert re.search(r"^queue +mail, which is full: 1 of 1 slots are held", text, re.MULTILINE)
    assert (
        "it waits for a slot of queue mail; holds has held a slot for the longest time, to look at"
        f" it: durable-workflow show {file} holds; for more slots: durable-workflow queue set"
        f" {file} mail --concurrency N"
    ) in text
    _, text = on_terminal("show", file, "holds", columns=250)
    assert "waits for a slot" not in text
