"""Which database a command is about: FILE, `--db`, or the variable."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from durable_workflow_sqlite.database import VARIABLE
from tests.cli.conftest import ENVIRONMENT, on_terminal, run
from tests.commands import run_command

COMMANDS: dict[str, tuple[int, list[str]]] = {
    "status": (0, []),
    "list": (0, []),
    "show": (0, ["order-A-1"]),
    "watch": (0, ["order-A-1"]),
    "signal": (0, ["order-WAIT-1", "approved"]),
    "cancel": (0, ["order-WAIT-1"]),
    "retry": (0, ["order-BAD-1"]),
    "unblock": (1, ["order-WAIT-1"]),  # it is not blocked
    "prune": (0, ["--older-than", "30d"]),
    "backup": (0, ["COPY"]),
    "vacuum": (0, []),
    "doctor": (3, []),
    "migrate": (0, []),
    "worker": (1, ["--app", "nowhere"]),  # there is no such module
    "check-code": (1, ["--app", "nowhere"]),
    "export": (0, ["order-A-1"]),
    "dashboard": (1, ["--host", "256.0.0.1"]),  # there is no such address
}
"""A command, and how it ends on what a worker left behind when it was killed."""

A_FEW = {"status", "signal", "prune", "migrate"}
NEED_APP = ("worker", "check-code")


def with_variable(
    value: str | Path, *arguments: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, env=ENVIRONMENT | {VARIABLE: str(value)}, cwd=cwd)


@pytest.mark.parametrize(
    "command",
    [one if one in A_FEW else pytest.param(one, marks=pytest.mark.campaign) for one in COMMANDS],
)
def test_the_database_is_named_in_three_ways(file: Path, tmp_path: Path, command: str) -> None:
    code, rest = COMMANDS[command]
    ways = (
        lambda words: run(command, file, *words),
        lambda words: run(command, *words, "--db", file),
        lambda words: run(command, "--db", file, *words),
        lambda words: run("--db", file, command, *words),
        lambda words: with_variable(file, command, *words),
        lambda words: with_variable("no.db", command, "--db", file, *words),
    )
    before = shutil.copytree(file.parent, tmp_path / "before")
    answers = set()
    for number, way in enumerate(ways):
        shutil.rmtree(file.parent)
        shutil.copytree(before, file.parent)
        done = way([str(tmp_path / f"copy {number}") if one == "COPY" else one for one in rest])
        assert done.returncode == code, done
        answers.add(done.stderr.replace("--db ", ""))
    assert len(answers) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_given_beside_another_name_is_refused(
    file: Path, tmp_path: Path, command: str
) -> None:
    other = shutil.copy(file, tmp_path / "other.db")
    before = file.read_bytes(), other.read_bytes()
    rest = COMMANDS[command][1]
    for done in (
        with_variable(file, command, other, *rest),
        run(command, "--db", file, other, *rest),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert "names the database" in done.stderr
        assert f"--db {other}" in done.stderr
    assert (file.read_bytes(), other.read_bytes()) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_a_database_says_how_to_name_one(command: str) -> None:
    done = run(command, *(["--app", "a:b"] if command in NEED_APP else []))
    assert (done.returncode, done.stdout) == (2, "")
    assert "FILE first, or --db FILE, or set DURABLE_WORKFLOW_DB" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_the_rule(command: str) -> None:
    text = " ".join(run(command, "--help").stdout.split())
    assert "not given where --db or DURABLE_WORKFLOW_DB names it" in text
    assert "--db FILE" in text


def test_an_argument_too_many_is_refused_with_the_rule(file: Path) -> None:
    for command in ("status", "doctor", "migrate"):
        done = with_variable(file, command, "order-A-1")
        assert (done.returncode, done.stdout) == (2, "")
        assert "so FILE is not given; leave out 'order-A-1'" in done.stderr


def test_an_option_that_takes_one_value_is_refused_when_it_is_given_twice(file: Path) -> None:
    """Else the first value would be dropped in silence."""
    before = file.read_bytes()
    done = run("cancel", file, "--id", "order-A", "--id=order-B", "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--id is given twice" in done.stderr
    assert file.read_bytes() == before
    several = ("--status", "failed", "--status", "completed", "--json", "--json")
    assert run("list", file, *several).returncode == 0


def test_a_file_that_is_not_there_is_said_with_what_named_it(file: Path) -> None:
    """Above all where somebody forgot FILE, and an id was taken for it."""
    before = sorted(file.parent.iterdir())
    for done, origin in (
        (run("cancel", "order-A-1"), "the first argument"),
        (run("cancel", "order-A-1", "order-A-2"), "the first argument"),
        (run("status", "--db", "no.db"), "--db"),
        (with_variable("no.db", "cancel", "order-A-1"), "DURABLE_WORKFLOW_DB"),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("there is no file ")
        assert done.stderr.endswith(f"; {origin} names the database\n")
    assert sorted(file.parent.iterdir()) == before


def test_an_id_is_an_id_though_a_folder_or_another_file_has_its_name(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "order-A-1").mkdir()
    (tmp_path / "order-A-2").write_text("no database")
    for one in ("order-A-1", "order-A-2"):
        done = with_variable(file, "show", one, cwd=tmp_path)
        assert f"execution\tid\t{one}" in done.stdout


def test_an_empty_variable_names_nothing_and_an_empty_option_is_refused(file: Path) -> None:
    assert with_variable("", "status", file).returncode == 0
    for command in ("status", "migrate"):
        done = run(command, "--db", "")
        assert done.returncode == 2
        assert "--db is empty" in done.stderr


def test_a_command_to_copy_works_in_the_shell_that_shows_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, VARIABLE, str(file))
    _, text = on_terminal("show", "order-BAD-1")
    assert f"durable-workflow retry --db {file} order-BAD-1" in text


def test_the_versions_are_those_of_the_library_sqlite_and_the_schema() -> None:
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "durable-workflow-sqlite",
        "SQLite",
        "schema",
    ]


def test_a_url_names_a_file(file: Path) -> None:
    listed = run_command("list", f"sqlite:///{file}", env={})
    assert (listed.returncode, listed.stdout) == (0, run_command("list", file, env={}).stdout)
    for url, says in (
        ("mysql://kim@host/db", "mysql is not known"),
        ("sqlite://", "is in memory"),
    ):
        refused = run_command("list", url, env={})
        assert refused.returncode == 2
        assert says in refused.stderr
