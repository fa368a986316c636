"""A schema is brought up to date once, whoever opens it, and as a whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from durable_workflow_sqlite import MigrationError, SchemaTooNewError, StoreError

if TYPE_CHECKING:
    import psycopg

FOLDER = Path(__file__).parents[2] / "sql/postgres/migrations"
NAMES = sorted(one.stem for one in FOLDER.glob("*.sql"))


def tables(by_hand: psycopg.Connection[tuple[Any, ...]], schema: str) -> set[str]:
    found = by_hand.execute(
        "select table_name from information_schema.tables where table_schema = %s", [schema]
    )
    return {str(name) for (name,) in found}


def test_who_comes_first_applies_all_and_the_others_find_it_done(
    url: str, schema: str, by_hand: psycopg.Connection[tuple[Any, ...]]
) -> None:
    from durable_workflow_sqlite.postgres.migrations import migrate

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: migrate(url, schema=schema), range(4)))
    assert sorted(done) == [[], [], [], NAMES]
    assert {"workflow_executions", "workflow_in_doubt"} <= tables(by_hand, schema)
    assert "workflow_executions" not in tables(by_hand, "public")
    found = by_hand.execute(f"select version, name from {schema}.workflow_migrations".encode())
    assert found.fetchall() == [(number, name) for number, name in enumerate(NAMES, 1)]


def test_what_fails_leaves_nothing(
    url: str,
    schema: str,
    by_hand: psycopg.Connection[tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from durable_workflow_sqlite.postgres import migrations

    for name in NAMES:
        text = (migrations.MIGRATIONS_DIR / f"{name}.sql").read_text()
        (tmp_path / f"{name}.sql").write_text(text)
    wrong = f"{len(NAMES) + 1:03}_add_nothing"
    (tmp_path / f"{wrong}.sql").write_text("create table durable_workflow.t (a nonsense);")
    monkeypatch.setattr(migrations, "MIGRATIONS_DIR", tmp_path)
    with pytest.raises(MigrationError, match=rf"{wrong}\.sql.*nonsense"):
        migrations.migrate(url, schema=schema)
    assert tables(by_hand, schema) == set()


def test_a_newer_schema_is_refused(
    url: str, schema: str, by_hand: psycopg.Connection[tuple[Any, ...]]
) -> None:
    from durable_workflow_sqlite.postgres.migrations import migrate

    migrate(url, schema=schema)
    by_hand.execute(f"insert into {schema}.workflow_migrations values (999, 'later')".encode())
    with pytest.raises(SchemaTooNewError) as refused:
        migrate(url, schema=schema)
    assert (refused.value.found, refused.value.supported) == (999, len(NAMES))


def test_a_wrong_name_or_address_is_refused(url: str) -> None:
    from durable_workflow_sqlite.postgres.migrations import migrate

    with pytest.raises(ValueError, match="schema must be"):
        migrate(url, schema='a"b')
    with pytest.raises(StoreError, match=r"cannot use postgresql://127\.0\.0\.1:1/nowhere"):
        migrate("postgresql://kim:secret@127.0.0.1:1/nowhere", schema="s")


def test_the_command_says_what_it_did(
    url: str, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from durable_workflow_sqlite.postgres.__main__ import main

    assert main([url, schema]) == 0
    assert capsys.readouterr().out == f"applied {', '.join(NAMES)}\n"
    assert main([url, schema]) == 0
    assert capsys.readouterr().out == "nothing is pending\n"
    assert main(["postgresql://kim:secret@127.0.0.1:1/nowhere"]) == 1
    assert "secret" not in (said := capsys.readouterr().err)
    assert "127.0.0.1:1/nowhere" in said
    assert main([]) == 2
