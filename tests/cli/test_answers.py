"""A step that is in doubt waits for an answer: the tools say so, and a command answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.asking import go_on, leave_questions
from tests.cli.conftest import lines, on_terminal, refusal, run


def checks(file: Path) -> dict[str, list[str]]:
    """What `doctor` says, by the name of the check."""
    found = [line.split("\t") for line in run("doctor", file).stdout.splitlines()]
    return {line[1]: line for line in found}


def seen(*arguments: str | Path) -> str:
    """What a terminal shows, in one line."""
    return " ".join(on_terminal(*arguments, columns=400)[1].split())


@pytest.fixture
def file(tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    file = tmp_path / "asking.db"
    leave_questions(file)
    return placed(file)


def test_a_step_that_asks_is_named_by_the_tools_and_answered_by_command(file: Path) -> None:
    level, _, says, *_ = checks(file)["unresolved"]
    assert level == "warning"
    assert "4 steps in doubt, waiting for a person: charge of asks, since " in says
    told = [line for line in lines("status", file) if line[0] == "question"]
    assert [(line[1], line[3]) for line in told] == [
        ("asks", "charge"),
        ("asks too", "charge"),
        ("asks again", "charge"),
        ("undoing", "reserve:compensate"),
    ]
    assert "waiting for an answer: 4" in seen("status", file)
    shown = seen("show", file, "asks")
    assert "answer about charge (asked " in shown
    assert "a person must say what became of it" in shown
    assert f"resolve {file} asks charge --not-done" in shown
    assert "answer about charge" in seen("list", file)
    assert "reserve:compensate null" in seen("show", file, "undoing")

    both = run("resolve", file, "asks", "charge", "5", "--not-done")
    assert (both.returncode, "give one of" in both.stderr) == (2, True)
    assert "recorded no step" in refusal("resolve", file, "asks", "chrge", "--not-done")
    assert run("resolve", file, "asks", "charge", "5").returncode == 0
    assert "runs again" in run("resolve", file, "asks too", "charge", "--not-done").stdout
    failed = run("resolve", file, "asks again", "charge", "--failed", "the bank is closed")
    assert "fails with StepAmbiguousError" in failed.stdout
    assert run("resolve", file, "undoing", "reserve:compensate", "null").returncode == 0

    assert go_on(file, "asks") == ("COMPLETED", '"paid 5"')
    assert go_on(file, "asks too") == ("COMPLETED", '"paid 7"')
    status, output = go_on(file, "asks again")
    assert status == "COMPLETED"
    assert "a person says: the bank is closed" in (output or "")
    assert go_on(file, "undoing") == ("FAILED", None)
    assert not checks(file).keys() & {"unresolved", "cut-off"}
    acts = [line for line in lines("show", file, "asks again") if line[0] == "act"]
    assert "the bank is closed" in str(acts)
    assert "asks nobody" in refusal("resolve", file, "asks", "charge", "--not-done")
