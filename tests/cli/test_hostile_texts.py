"""The command line on a file full of texts that were made to do harm, and given such texts."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import on_terminal, piped, run
from tests.hostile import HOSTILE, fill

WORST = tuple(text for text in HOSTILE if "\u202e" in text or "</script>" in text[:9])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "hostile.db"
    fill(path, 200)
    return path


def content(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


def hidden(text: str) -> set[str]:
    """What moves the cursor, rings, colours or turns a text around."""
    return {one for one in text if unicodedata.category(one) in ("Cc", "Cf")} - set("\n\r\t")


@pytest.mark.campaign
def test_nothing_that_is_shown_steers_a_terminal(hostile: Path) -> None:
    before = content(hostile)
    of_each = (
        one
        for text in WORST
        for one in (["show", "--", text], ["follow", "--step", f"tells {text}", "--", text])
    )
    for command, *options in (["status"], ["list"], *of_each):
        done = run(command, hostile, *options)
        assert done.returncode == 0, done.stderr
        assert hidden(done.stdout) == set(), options
        code, text = on_terminal(command, hostile, *options)
        assert code == 0
        assert hidden(text) == set(), options
    assert content(hostile) == before


@pytest.mark.campaign
def test_ids_are_shown_on_a_terminal_and_exact_in_a_pipe(hostile: Path) -> None:
    for form in ("id", "wide"):
        code, text = on_terminal("list", hostile, "--all", "-o", form)
        assert code == 0
        assert hidden(text) == set()
    with closing(sqlite3.connect(hostile)) as connection:
        rows = connection.execute("select workflow_execution_id from workflow_executions")
        everybody = {one for (one,) in rows}
    before = content(hostile)
    ids = run("list", hostile, "--all", "-o", "id").stdout
    done = piped(ids, "cancel", hostile, "-", "--dry-run")
    assert set(done.stdout.splitlines()) == set(ids.splitlines()) == everybody
    code, text = on_terminal("retry", hostile, "--all", "--dry-run")
    assert (code, hidden(text)) == (0, set())
    assert content(hostile) == before


def test_json_holds_texts_as_they_are(hostile: Path) -> None:
    for text in WORST:
        done = run("show", hostile, "--json", "--", text)
        assert json.loads(done.stdout)["summary"]["id"] == text


@pytest.mark.campaign
def test_no_argument_runs_sql(hostile: Path) -> None:
    before = content(hostile)
    for text in (
        "'; drop table workflow_executions; --",
        "' or 1=1 --",
        "%' union select sql from sqlite_schema --",
    ):
        for arguments in (
            ["list", hostile, "--type", text],
            ["list", hostile, "--id", text],
            ["list", hostile, "--after", text],
            ["list", hostile, "--status", text],
            ["list", hostile, "--error", text],
            ["list", hostile, "--input", f"1={text}"],
            ["list", hostile, "--input", f"{text.replace('=', '')}=1"],
            ["retry", hostile, "--error", text, "--yes"],
            ["unblock", hostile, "--id", text, "--yes"],
            ["prune", hostile, "--older-than", text],
        ):
            assert run(*arguments).returncode in (0, 1, 2)
        for command in ("cancel", "retry", "show"):
            assert run(command, hostile, "--", f"{text}x").returncode == 1
    assert content(hostile) == before
