"""Both dialects have the same queries: what differs is refused."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from pathlib import Path
from shutil import copy

import pytest

import postgres_queries
from postgres_queries import OUTPUT, QUERIES, ROOT, Server, checked
from query_files import DialectError, SqlType
from query_types import Schema
from tests import postgres_server

OF_SQLITE = Path("sql/queries")


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    from postgres_server import new_database

    with (
        pytest.MonkeyPatch.context() as patch,
        new_database(
            postgres_server.url().removesuffix("postgres"), f"types_{uuid.uuid4().hex}"
        ) as url,
    ):
        patch.chdir(ROOT)
        server = Server(url)
        yield server
        server.close()


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema(ROOT / "sql/migrations")


@pytest.mark.campaign
def test_what_is_committed_is_current(server: Server, schema: Schema) -> None:
    assert checked(server, schema, OF_SQLITE, QUERIES) == (ROOT / OUTPUT).read_text()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "-- name: load_limits\n",
            "-- name: load_all_limits\n",
            "SQLite has no query of",
        ),
        ("    declared\nfrom", "    name\nfrom", "declared"),
        (
            "    concurrency,\n",
            "    cast(concurrency as text) as concurrency,\n",
            "is text, and",
        ),
        (
            "name = :name",
            "name = :other_name",
            "only one of .* has :name, :other_name",
        ),
        ("kind = :kind", "kind = cast(:kind as bigint)", "PostgreSQL does not accept it"),
        ("    kind,\n", "    cast(kind as name) as kind,\n", "column 1 is name; cast it to one of"),
    ],
)
def test_a_query_that_differs_is_refused(
    tmp_path: Path, server: Server, schema: Schema, old: str, new: str, says: str
) -> None:
    file = "workflow_limits.sql"
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    copy(ROOT / OF_SQLITE / file, theirs)
    text = (ROOT / QUERIES / file).read_text()
    assert old in text
    (ours / file).write_text(text.replace(old, new))
    with pytest.raises(DialectError, match=says):
        checked(server, schema, theirs, ours)


def test_a_query_that_is_missing_is_named(tmp_path: Path, server: Server, schema: Schema) -> None:
    with pytest.raises(DialectError, match=r"workflow_tags\.sql: it lacks insert_tags, which"):
        checked(server, schema, OF_SQLITE, tmp_path)


def test_a_column_that_differs_is_named(
    server: Server, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(server.columns["workflow_tags"], "value", SqlType("text", nullable=True))
    monkeypatch.delitem(server.columns["workflow_tags"], "name")
    with pytest.raises(DialectError) as refused:
        checked(server, schema, OF_SQLITE, QUERIES)
    assert sorted(str(refused.value).splitlines()) == [
        "sql/postgres/migrations: workflow_tags.name is not there, and on SQLite text",
        "sql/postgres/migrations: workflow_tags.value is text null, and on SQLite text",
    ]


def test_a_write_that_does_not_lock_the_claim_is_refused(
    tmp_path: Path, server: Server, schema: Schema
) -> None:
    file = "workflow_timers.sql"
    text = (ROOT / QUERIES / file).read_text()
    assert "for key share" in text
    (tmp_path / file).write_text(text.replace("        for key share\n", ""))
    with pytest.raises(DialectError, match=r"write it as a condition of its own.*for key share"):
        checked(server, schema, OF_SQLITE, tmp_path)


def test_without_a_server_nothing_is_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(postgres_queries, "programs", lambda: None)
    monkeypatch.setattr("sys.argv", ["postgres_queries.py", "--check"])
    monkeypatch.chdir(ROOT)
    assert postgres_queries.main() == 0
    assert "apt-get install postgresql" in capsys.readouterr().out
