"""How the server finds the rows of each query: what reads a table that grows is refused."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from shutil import copy

import pytest

import postgres_plans
from postgres_plans import OF_SQLITE, OUTPUT, QUERIES, ROOT, PlansError, a_filled_server, plans
from postgres_queries import Server
from tests import postgres_server

pytestmark = pytest.mark.campaign  # to fill a database takes seconds, and `make check` does it, too


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    postgres_server.url()  # skips the test where there is none
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        with a_filled_server() as server:
            yield server


def test_what_is_committed_is_current(server: Server) -> None:
    text = plans(server, QUERIES, OF_SQLITE)
    committed = (ROOT / OUTPUT).read_text()
    if text.splitlines()[0] == committed.splitlines()[0]:  # of the same version
        assert text == committed


def of(text: str, query: str) -> str:
    return re.split(r"\n\n", text.partition(f"\n\n{query}\n")[2])[0]


def test_what_an_engine_sends_is_planned_for_all_values_and_a_question_for_its_own(
    server: Server,
) -> None:
    text = plans(server, QUERIES, OF_SQLITE)
    assert "workflow_execution_id = $1)" in of(text, "load_execution")
    assert "workflow_execution_id = 'PENDING, empty'" in of(text, "load_execution_data")


def test_a_query_that_reads_a_whole_table_is_refused_unless_it_says_why(
    server: Server, tmp_path: Path
) -> None:
    copy(ROOT / QUERIES / "workflow_tags.sql", tmp_path)
    query = (
        "\n-- name: load_values\n-- The tags of a value.\n{allowance}select name\n"
        "from durable_workflow.workflow_tags\nwhere value = :value;\n"
    )
    file = tmp_path / "workflow_tags.sql"
    text = file.read_text()
    file.write_text(text + query.format(allowance=""))
    with pytest.raises(PlansError, match="load_values: PostgreSQL reads all of workflow_tags"):
        plans(server, tmp_path, OF_SQLITE)
    file.write_text(text + query.format(allowance="-- @scan workflow_tags: a person asks\n"))
    assert "Seq Scan on workflow_tags" in of(plans(server, tmp_path, OF_SQLITE), "load_values")


def test_a_statement_that_the_server_refuses_is_named(server: Server, tmp_path: Path) -> None:
    copy(ROOT / QUERIES / "workflow_tags.sql", tmp_path)
    file = tmp_path / "workflow_tags.sql"
    file.write_text(file.read_text().replace("from durable_workflow.workflow_tags", "from nothing"))
    with pytest.raises(PlansError, match=r"workflow_tags\.sql:\d+: ERROR"):
        plans(server, tmp_path, OF_SQLITE)


def test_without_a_server_nothing_is_planned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(postgres_plans, "programs", lambda: None)
    monkeypatch.setattr("sys.argv", ["postgres_plans.py", "--check"])
    monkeypatch.chdir(ROOT)
    assert postgres_plans.main() == 0
    assert "apt-get install postgresql" in capsys.readouterr().out
