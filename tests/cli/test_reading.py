"""status, list, show and watch, as a person and as a script see them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
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
from tests.cli.orders import STARTED
from tests.commands import COMMAND
from tests.other_user import become_another_user

EVERYBODY = [f"order-{one}" for one in reversed(STARTED)]


def test_status_says_what_there_is_and_what_to_look_at_first(file: Path) -> None:
    found = lines("status", file)
    assert found[0] == ["workers", "0"]
    counts = {line[3]: line[4] for line in found if line[0] == "count"}
    assert counts == {"COMPLETED": "2", "FAILED": "2", "RUNNING": "1", "SUSPENDED": "3"}
    assert [line[1] for line in found if line[0] == "oldest"] == [
        "order-WAIT-1",
        "order-WAIT-2",
        "order-SLEEP-1",
        "order-SLOW-1",
    ]
    assert [line[1:4] for line in found if line[0] == "in-doubt"] == [
        ["order-SLOW-1", "order", "pack"]
    ]
    assert next(line[1] for line in found if line[0] == "timer") == "order-SLEEP-1"


def test_status_on_a_terminal_is_made_of_tables(file: Path) -> None:
    code, text = on_terminal("status", file)
    assert code == 0
    for words in (
        "SUSPENDED",
        "in doubt: 1",
        "oldest unfinished",
        "no worker lives: ",
    ):
        assert words in text
    with pytest.raises(ValueError):
        json.loads(text)


def test_list_goes_page_by_page_from_the_newest_to_the_oldest(file: Path) -> None:
    seen: list[str] = []
    after: list[str] = []
    while True:
        done = run("list", file, "--limit", "3", *after)
        assert done.returncode == 0
        seen += [line.split("\t")[0] for line in done.stdout.splitlines()]
        if not done.stderr:
            break
        after = ["--after", done.stderr.split()[-1]]
    assert seen == EVERYBODY


def test_list_takes_those_of_a_status_a_type_an_age_or_a_prefix(file: Path) -> None:
    def ids(*filters: str) -> list[str]:
        return [line[0] for line in lines("list", file, *filters)]

    assert ids("--status", "failed") == ["order-BAD-UNDONE", "order-BAD-1"]
    assert ids("-s", "RUNNING", "-s", "SUSPENDED", "--id", "order-W") == [
        "order-WAIT-2",
        "order-WAIT-1",
    ]
    assert ids("--type", "order", "--newer-than", "1d") == EVERYBODY
    assert ids("--older-than", "1d") == []


def test_list_goes_through_all_pages_by_itself(file: Path) -> None:
    done = run("list", file, "--limit", "3", "--all", "-o", "id")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == EVERYBODY
    (first, *more) = run("list", file, "--limit", "3", "--all", "--json").stdout.splitlines()
    assert len(more) == 2
    assert [row["id"] for row in json.loads(first)["rows"]] == EVERYBODY[:3]


def test_list_takes_several_statuses_with_commas(file: Path) -> None:
    wanted = [line[0] for line in lines("list", file, "-s", "failed", "-s", "running")]
    assert len(wanted) == 3
    for statuses in ("failed,running", "RUNNING, Failed"):
        assert [line[0] for line in lines("list", file, "--status", statuses)] == wanted


def test_list_writes_in_the_form_that_is_asked_for(file: Path) -> None:
    only = ["--id", "order-WAIT-1"]
    assert lines("list", file, *only, "-o", "table") == lines("list", file, *only)
    for form in ("id", "name"):
        assert lines("list", file, *only, "-o", form) == [["order-WAIT-1"]]
        assert on_terminal("list", file, *only, "-o", form) == (0, "order-WAIT-1\n")
    (plain,), (wide,) = lines("list", file, *only), lines("list", file, *only, "-o", "wide")
    assert (wide[:14], wide[-5:]) == (plain[:14], plain[14:])
    *more, worker = wide[14:-5]
    assert more == ["3", "2", "1", "0", ""]
    assert worker  # which is dead
    _, text = on_terminal("list", file, *only, "-o", "wide", columns=200)
    assert "2/3" in text
    as_json = run("list", file, *only, "--json").stdout
    assert run("list", file, *only, "-o", "json").stdout == as_json
    assert run("list", file, *only, "--json", "-o", "wide").returncode == 2
    assert run("list", file, *only, "-o", "xml").returncode == 2


def test_show_takes_several_ids(file: Path) -> None:
    found = lines("show", file, "order-A-2", "order-A-1", "order-A-2")
    assert [line[2] for line in found if line[:2] == ["execution", "id"]] == [
        "order-A-2",
        "order-A-1",
    ]
    assert found.count([""]) == 1
    done = run("show", file, "order-A-1", "order-A-2", "--json")
    assert [json.loads(one)["summary"]["id"] for one in done.stdout.splitlines()] == [
        "order-A-1",
        "order-A-2",
    ]
    _, text = on_terminal("show", file, "order-A-1", "order-A-2")
    assert "order-A-1" in text
    assert "order-A-2" in text
    assert "'nobody'" in refusal("show", file, "order-A-1", "nobody")


def test_a_row_of_list_says_what_is_waited_for_until_when(file: Path) -> None:
    (row,) = json.loads(run("list", file, "--id", "order-WAIT-1", "--json").stdout)["rows"]
    assert (row["current_step"], row["waiting_for"]) == ("approved", "signal approved")
    (cells,) = lines("list", file, "--id", "order-WAIT-1")
    assert cells[6:8] == ["approved", "signal approved"]
    assert cells[8][:19] == row["waiting_until"][:19]


def test_show_has_the_whole_history(file: Path) -> None:
    found = lines("show", file, "order-BAD-UNDONE")
    assert ["execution", "status", "FAILED"] in found
    assert [line[1:7] for line in found if line[0] == "step"] == [
        ["", "0", "1", "charge", "STEP", "COMPLETED"],
        ["", "1", "1", "pack", "STEP", "COMPLETED"],
        ["", "2", "1", "ship", "STEP", "FAILED"],
    ]
    assert [line[4:7] for line in found if line[0] == "compensation"] == [
        ["charge", "STEP", "COMPENSATED"]
    ]


def test_show_says_which_patches_an_execution_has_passed(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(
            "insert into workflow_patches (workflow_execution_id, branch, patch_name, event)"
            " values ('order-A-1', '', 'add-tax', 2), ('order-A-1', 'mail', 'add-tax', 3)"
        )
    found = [line[:4] for line in lines("show", file, "order-A-1") if line[0] == "patch"]
    assert found == [["patch", "", "add-tax", "2"], ["patch", "mail", "add-tax", "3"]]
    shown = json.loads(run("show", file, "order-A-1", "--json").stdout)["patches"]
    assert [(one["branch"], one["patch_name"], one["event"]) for one in shown] == [
        ("", "add-tax", 2),
        ("mail", "add-tax", 3),
    ]
    _, text = on_terminal("show", file, "order-A-1")
    assert "patches that it has passed" in text
    _, text = on_terminal("show", file, "order-A-2")
    assert "patches" not in text


def test_show_says_that_a_worker_is_dead_and_what_lets_an_execution_go_on(file: Path) -> None:
    _, text = on_terminal("show", file, "order-WAIT-1")
    assert "no worker lives, so it does not continue" in text
    assert f"durable-workflow signal {file} order-WAIT-1 approved [JSON]" in " ".join(text.split())
    _, text = on_terminal("show", file, "order-SLOW-1")
    assert "DEAD" in text


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_narrow_terminal_breaks_no_id_no_status_and_no_line(file: Path, columns: int) -> None:
    for command in (["status"], ["list"], ["show", "order-BAD-UNDONE"]):
        _, text = on_terminal(command[0], file, *command[1:], columns=columns)
        hint = f"durable-workflow retry {file}"  # this may be wider, to be copied
        assert all(len(line) <= columns or hint in line for line in text.splitlines())
    assert "COMPENSATED" in text
    _, text = on_terminal("list", file, columns=columns)
    for order_id in STARTED:
        assert re.search(rf"^order-{order_id} ", text, re.MULTILINE)


def test_what_an_error_says_does_nothing_to_a_terminal_or_to_the_lines(file: Path) -> None:
    done = run("list", file, "--id", "order-BAD-1")
    (line,) = done.stdout.splitlines()
    assert line.split("\t")[10] == r"no address \x1b[31m\ttab\nline"
    _, text = on_terminal("show", file, "order-BAD-1")
    assert r"\x1b[31m" in text


def test_what_a_worker_left_as_it_is_says_why_until_code_that_fits_has_it(file: Path) -> None:
    def in_trouble() -> list[list[str]]:
        return [line for line in lines("status", file) if line[0] == "in-trouble"]

    assert in_trouble() == lines("list", file, "--in-trouble") == []
    with a_worker(file, "changed_order"):
        assert run("signal", file, "order-WAIT-1", "approved").returncode == 0
        wait_until(lambda: len(in_trouble()) == 2)
        assert run("doctor", file, "--quick").returncode == 3
    assert [line[1:4] for line in in_trouble()] == [
        ["order-WAIT-1", "order", "RUNNING"],
        ["order-SLOW-1", "order", "RUNNING"],
    ]
    (waits,) = lines("list", file, "--in-trouble", "--id", "order-W")
    assert waits[0] == "order-WAIT-1"
    assert waits[11].startswith("NonDeterminismError: ")
    (whole,) = (line[2] for line in lines("show", file, "order-WAIT-1") if line[1] == "trouble")
    assert waits[11].endswith("…")
    assert whole.startswith(waits[11][:-1])
    listed = json.loads(run("list", file, "--in-trouble", "--json").stdout)["rows"]
    assert whole in [row["trouble"] for row in listed]
    overview = json.loads(run("status", file, "--json").stdout)["overview"]
    assert whole in [row["trouble"] for row in overview["in_trouble"]]
    assert whole in [row["trouble"] for row in overview["oldest_unfinished"]]
    found = json.loads(run("doctor", file, "--quick", "--json").stdout)
    (trouble,) = (one for one in found if one["check"] == "trouble")
    assert f"order-WAIT-1: {whole}" in trouble["details"]
    shown = json.loads(run("show", file, "order-WAIT-1", "--json").stdout)
    assert shown["summary"]["trouble"] == whole
    assert "NonDeterminismError" in refusal("retry", file, "order-WAIT-1")
    code, text = on_terminal("status", file)
    assert (code, "in trouble: 2" in text) == (0, True)
    _, text = on_terminal("show", file, "order-WAIT-1")
    seen = " ".join(text.split())
    assert "NonDeterminismError" in seen
    assert f"durable-workflow cancel {file} order-WAIT-1" in seen
    with a_worker(file):
        wait_until(lambda: lines("list", file, "--id", "order-WAIT-1")[0][3] == "COMPLETED")
        assert "order-WAIT-1" not in str(in_trouble())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "FILE", "order-W"], "no execution has the id 'order-W'; there is order-WAIT-2"),
        (["show", "FILE", "nope"], "list"),
        (["list", "FILE", "--status", "lost"], "SUSPENDED"),
        (["list", "FILE", "--status", "faild"], "did you mean 'FAILED'?"),
        (["list", "FILE", "--type", "ordr"], "no workflow type 'ordr'; did you mean 'order'?"),
        (["list", "FILE", "--type", "refund"], "durable-workflow status"),
        (["list", "FILE", "--older-than", "soon"], "30d"),
        (["list", "FILE", "--after", "zz"], "next"),
        (["status", "no.db"], "there is no file"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_a_hint(
    file: Path, arguments: list[str], says: str
) -> None:
    assert says in refusal(*(file if word == "FILE" else word for word in arguments))


def test_an_older_file_is_not_migrated_but_named(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma user_version = 4")
    before = file.read_bytes()
    for command in (["status"], ["signal", "order-WAIT-1", "approved"]):
        assert f"durable-workflow migrate --db {file}" in refusal(command[0], file, *command[1:])
    assert file.read_bytes() == before


def test_a_file_in_a_folder_that_is_read_only_is_read(file: Path) -> None:
    """Also by one who may not make SQLite's shared memory beside it."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    for one in file.parent.iterdir():
        if one != file:
            one.unlink()
        else:
            one.chmod(0o444)
    copy = Path(tempfile.mkdtemp())  # a folder that another user may enter
    shutil.copy2(file, copy)
    copy.chmod(0o555)
    try:
        for command in (["status"], ["list"], ["show", "order-A-1"], ["doctor"]):
            done = run(command[0], copy / file.name, *command[1:], before=become_another_user)
            assert done.returncode in (0, 3), done.stderr
            assert done.stdout
        assert {one.name for one in copy.iterdir()} == {file.name}
    finally:
        copy.chmod(0o755)
        shutil.rmtree(copy)


def test_a_worker_that_has_nothing_to_do_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    assert run("migrate", file, "--create").returncode == 0
    with a_worker(file):
        assert ["workers", "1"] in lines("status", file)
    assert ["workers", "0"] in lines("status", file)


def test_watch_follows_an_execution_to_its_end(file: Path) -> None:
    watching = subprocess.Popen(
        [*COMMAND, "watch", file, "order-WAIT-1", "--interval", "0.05"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert watching.stdout.readline().split("\t")[1] == "SUSPENDED"
    with a_worker(file):
        assert run("signal", file, "order-WAIT-1", "approved").returncode == 0
        assert watching.wait(30) == 0
    assert watching.stdout.readlines()[-1].split("\t")[1] == "COMPLETED"
    watching.stdout.close()


@pytest.mark.campaign
def test_watch_ends_when_it_is_interrupted(file: Path) -> None:
    watching = subprocess.Popen(
        [*COMMAND, "watch", file, "--interval", "0.05"], env=ENVIRONMENT, stdout=subprocess.PIPE
    )
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 0
    watching.stdout.close()


def test_looking_changes_nothing_beside_a_worker(file: Path) -> None:
    with a_worker(file):
        wait_until(lambda: ["workers", "1"] in lines("status", file))
        for command in (["list"], ["show", "order-A-1"], ["doctor"]):
            assert run(command[0], file, *command[1:]).returncode == 0
