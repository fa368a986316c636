"""The commands of the named queues, and a worker that serves one."""

from __future__ import annotations

import json
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
    ((*_, running, due, since, later, _, _, _),) = lines("queue", "list", file)
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


def test_the_limits_of_steps_are_shown_and_changed(file: Path) -> None:
    set_ = ("queue", "set", file, "--limit", "openai")
    assert "no limit 'openai' for steps is declared" in refusal(*set_, "--rate", "100/60")
    lines(*set_, "--add", "--concurrency", "5", "--rate", "100/60")
    lines(*set_, "--per-key", "1", "--concurrency", "none")
    assert lines("queue", "list", file) == []
    assert lines("queue", "list", file, "--limits") == [
        ["openai", "", "1", "100/60", "0", *[""] * 3]
    ]
    assert lines("queue", "list", file, "--limits", "-o", "name") == [["openai"]]
    near = refusal("queue", "set", file, "--limit", "opnai", "--rate", "1/1")
    assert "did you mean 'openai'?" in near
    for wrong, says in (
        (("--limit", "openai", "--per-worker", "1"), "has no --per-worker"),
        (("--limit", "openai", "--key-rate", "1/1"), "has no --key-rate"),
        (("--limit", "openai"), "nothing to change"),
        (("mail", "--limit", "openai", "--per-key", "1"), "not both"),
        (("--per-key", "1"), "--limit NAME for steps"),
    ):
        done = run("queue", "set", file, *wrong)
        assert done.returncode == 2
        assert says in done.stderr
    too_much = refusal("queue", "set", file, "--limit", "openai", "--per-key", str(2**63))
    assert "--per-key must be" in too_much
    assert lines("queue", "list", file, "--limits")[0][1:4] == ["", "1", "100/60"]
    said = lines(*set_, "--per-key", "1")
    assert said == [["limit openai: nothing was changed"]]
    code, text = on_terminal("queue", "list", file)
    assert code == 0
    assert "limits for steps" in text and "openai" in text and "100/60" in text


def test_rates_and_keys_are_shown_in_every_form(file: Path) -> None:
    more = ("--rate", "100/60", "--key-rate", "1/0.5", "--per-key", "2", "--add")
    lines("queue", "set", file, "mail", "--concurrency", "3", *more)
    (line,) = lines("queue", "list", file)
    assert (line[:4], line[-2:]) == (["mail", "3", "", "2"], ["100/60", "1/0.5"])
    (wide,) = lines("queue", "list", file, "-o", "wide")
    assert wide[: len(line)] == line
    assert wide[len(line) : len(line) + 2] == ["0", "0"]  # keys, and begun within the time
    assert lines("queue", "list", file, "-o", "name") == [["mail"]]
    found = json.loads(run("queue", "list", file, "-o", "json").stdout)
    assert found["limits"] == []
    (queue,) = found["queues"]
    assert (queue["rate"], queue["key_rate_seconds"], queue["is_declared"]) == (100, 0.5, True)
    _, text = on_terminal("queue", "list", file, "-o", "wide", columns=250)
    assert "1/0.5" in text and "held longest" in text


def test_a_queue_that_executions_name_and_nobody_declares_is_shown(file: Path) -> None:
    lines("queue", "set", file, "mail", "--concurrency", "3", "--add")
    lines("start", file, "order", '"B-1"', "--queue", "mail", "--id", "in-mail")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("delete from workflow_limits")
    (line,) = lines("queue", "list", file)
    assert (line[0], line[5]) == ("mail", "1")
    _, text = on_terminal("queue", "list", file, columns=250)
    assert "mail (not declared)" in text
    assert lines("list", file, "--in-queue", "mail", "-o", "id") == [["in-mail"]]
    assert lines("list", file, "--in-queue", "other", "-o", "id") == []
    assert "--in-queue holds an empty name" in refusal("list", file, "--in-queue", "")


def test_who_changed_limits_paused_and_resumed_is_in_the_audit_log(file: Path) -> None:
    lines("queue", "set", file, "mail", "--concurrency", "3", "--add")
    lines("queue", "set", file, "mail", "--concurrency", "5", "--rate", "100/60")
    lines("queue", "set", file, "--limit", "openai", "--per-key", "1", "--add")
    lines("pause", file, "--queue", "mail", "--reason", "we move")
    lines("resume", file, "--queue", "mail")
    found = lines("audit", file, "--queue", "mail")
    assert [line[3] for line in found] == ["resume", "pause", "set", "set"]
    assert {tuple(line[:2]) for line in found} == {("QUEUE", "mail")}
    assert "@" in found[0][4]
    assert json.loads(found[2][5]) == {
        "concurrency": {"was": 3, "is": 5},
        "rate": {"was": None, "is": "100/60"},
    }
    assert json.loads(found[0][5])["paused_reason"] == "we move"
    assert [line[:2] for line in lines("audit", file, "-n", "1")] == [["QUEUE", "mail"]]
    assert [line[1] for line in lines("audit", file, "--limit", "openai")] == ["openai"]
    assert run("audit", file, "--queue", "a", "--schedule", "b").returncode == 2
    nothing = run("audit", file, "--limit", "20")
    assert nothing.stdout == ""
    assert "nobody has done anything to the limit for steps '20'" in nothing.stderr
    assert "give -n 20" in nothing.stderr
    _, text = on_terminal("audit", file, columns=200)
    assert "concurrency: 3 → 5" in text
    _, text = on_terminal("queue", "show", file, "mail", columns=200)
    assert "slots in use" in text and "concurrency: 3 → 5" in text
    shown = json.loads(run("queue", "show", file, "--limit", "openai", "-o", "json").stdout)
    assert (shown["limits"]["per_key"], shown["holders"]) == (1, [])
    assert ["limit", "per key", "1"] in lines("queue", "show", file, "--limit", "openai")
    assert "there is no queue 'mial'; did you mean 'mail'?" in refusal(
        "queue", "show", file, "mial"
    )
    assert json.loads(run("audit", file, "--json").stdout)[0]["act"] == "resume"
