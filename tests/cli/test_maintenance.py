"""prune, backup, vacuum and doctor."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import (
    ENVIRONMENT,
    a_worker,
    lines,
    on_terminal,
    refusal,
    run,
    wait_until,
)
from tests.commands import COMMAND


def ids(file: Path) -> set[str]:
    return {line[0] for line in lines("list", file)}


def findings(file: Path, *options: str) -> tuple[int, dict[str, str]]:
    """The exit code of doctor, and the level of each check."""
    done = run("doctor", file, "--json", *options)
    return done.returncode, {one["check"]: one["level"] for one in json.loads(done.stdout)}


# prune


def test_prune_deletes_nothing_that_it_was_not_told_to(file: Path) -> None:
    before = ids(file)
    done = run("prune", file, "--older-than", "0s")
    assert done.returncode == 1
    assert done.stdout.split("\t")[:4] == ["order", "1", "COMPLETED", "2"]
    assert "--yes" in done.stderr
    code, text = on_terminal("prune", file, "--older-than", "0s", answer="n\n")
    assert code == 1
    assert "delete 2 executions" in text
    assert ids(file) == before


def test_prune_deletes_what_it_showed(file: Path) -> None:
    before = ids(file)
    done = run(
        "prune", file, "--older-than", "0s", "-s", "failed", "-s", "completed", "--yes",
        "--batch-size", "1",
    )  # fmt: skip
    assert done.returncode == 0
    assert "deleted 4" in done.stdout
    gone = {"order-A-1", "order-A-2", "order-BAD-1", "order-BAD-UNDONE"}
    assert ids(file) == before - gone
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("pragma foreign_key_check").fetchall() == []


def test_prune_leaves_what_is_younger_and_what_is_unfinished(file: Path) -> None:
    assert lines("prune", file, "--older-than", "30d") == []
    assert "only finished" in refusal("prune", file, "--older-than", "0s", "-s", "RUNNING")


# backup and vacuum


def test_a_backup_made_while_a_worker_writes_is_whole(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with a_worker(file):
        assert run("backup", file, copy).returncode == 0
    assert ids(copy) == ids(file)
    assert findings(copy)[1]["integrity"] == "ok"
    assert "is there already" in refusal("backup", file, copy)


def test_vacuum_gives_back_the_room_of_what_was_deleted(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "update workflow_executions set output_data = json_quote(hex(zeroblob(1000000)))"
            " where workflow_execution_id = 'order-A-1'"
        )
    assert run("prune", file, "--older-than", "0s", "--yes").returncode == 0
    with a_worker(file):
        assert run("vacuum", file).returncode == 0
    assert file.stat().st_size < 1_000_000
    assert findings(file)[1]["integrity"] == "ok"


def test_a_full_disk_is_named_and_what_only_looks_goes_on(file: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=480k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can make a small disk")
    try:
        full = small / "orders.db"
        assert lines("backup", file, full)
        (small / "rest").write_bytes(bytes(os.statvfs(small).f_bavail * 4096))
        assert "disk is full" in refusal("backup", file, small / "copy.db")
        assert {one.name for one in small.iterdir()} == {"orders.db", "rest"}
        assert {line[0] for line in lines("list", full)} == ids(file)
        assert findings(full)[1]["disk"] == "error"
        assert "disk" in refusal("signal", full, "order-WAIT-1", "approved")
        (small / "rest").unlink()
        assert lines("signal", full, "order-WAIT-1", "approved")
    finally:
        subprocess.run(["umount", small], check=True)


# doctor


def test_doctor_finds_what_a_killed_worker_left(file: Path) -> None:
    code, found = findings(file)
    assert code == 3
    assert {name for name, level in found.items() if level == "warning"} == {
        "workers",
        "in-doubt",
    }


def test_doctor_finds_nothing_beside_a_worker_that_took_it_over(file: Path) -> None:
    with a_worker(file):
        wait_until(lambda: findings(file, "--quick")[0] == 0)
        _, found = findings(file, "--quick")
    assert not {"warning", "error"} & set(found.values())


@pytest.mark.parametrize(
    ("by_hand", "check", "code"),
    [
        ("drop index idx_wf_exec_status", "schema", 4),
        ("drop view workflow_overview", "schema", 4),
        ("update workflow_executions set status = 'LOST'", "rows", 4),
        ("update workflow_executions set created_at = 'yesterday'", "rows", 4),
        ("update workflow_executions set available_at = 'soon'", "rows", 4),
        ("update workflow_timers set fire_at = 'tomorrow'", "rows", 4),
        ("update step_checkpoints set output_data = 'packed'", "rows", 4),
        ("update workflow_executions set workflow_id = 'gone'", "references", 4),
        ("update workflow_executions set blocked_reason = 'x' where status = 'RUNNING'",
         "blocked", 3),
        ("update workflow_executions set trouble = 'x' where status = 'RUNNING'", "trouble", 3),
        ("update workflow_timers set fire_at = '2020-01-01T00:00:00.000000Z'", "timers", 3),
    ],
)  # fmt: skip
def test_doctor_finds_what_was_changed_by_hand(
    file: Path, by_hand: str, check: str, code: int
) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute(by_hand)
    found = findings(file)
    assert found[0] == code
    assert found[1][check] in ("warning", "error")


def test_what_was_changed_by_hand_is_still_shown_with_what_is_wrong(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute(
            "update workflow_executions set status = 'LOST', created_at = 'yesterday'"
            " where workflow_execution_id = 'order-A-1'"
        )
    assert [line[0] for line in lines("list", file, "--status", "lost")] == ["order-A-1"]
    problems = [line[1] for line in lines("show", file, "order-A-1") if line[0] == "problem"]
    assert len(problems) == 2
    _, text = on_terminal("show", file, "order-A-1")
    assert "cannot be read" in text


# Without the extra, and completion


@pytest.mark.campaign
def test_without_the_extra_each_command_names_it(tmp_path: Path) -> None:
    hidden = (
        "import sys; sys.modules.update(typer=None, rich=None)\n"
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda n, p=None: None if n in ('typer', 'rich') else real(n, p)\n"
        "from durable_workflow_sqlite.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )

    for words in ([], ["status", tmp_path / "a.db"], ["migrate", tmp_path / "a.db", "--create"]):
        refused = subprocess.run(
            [sys.executable, "-c", hidden, *words],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (refused.returncode, refused.stdout) == (1, "")
        (line,) = refused.stderr.splitlines()
        assert "pip install 'durable-workflow-sqlite[cli]'" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.campaign
def test_the_shell_completes_the_commands() -> None:
    done = subprocess.run(
        COMMAND,
        env=ENVIRONMENT
        | {
            "_DURABLE_WORKFLOW_COMPLETE": "complete_bash",
            "COMP_WORDS": "durable-workflow st",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "status" in done.stdout.split()


def test_a_reader_that_has_seen_enough_is_no_error(file: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "list", file],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(30) == 0
    assert errors == b""
    process.stderr.close()
