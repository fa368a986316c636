"""A schema is brought up to date once, whoever opens it, and as a whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from durable_workflow_sqlite import MigrationError, SchemaTooNewError, StoreError
from tests import commands

if TYPE_CHECKING:
    import psycopg

run_command = partial(commands.run_command, env={})
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
    url: str, schema: str, by_hand: psycopg.Connection[tuple[Any, ...]]
) -> None:
    address = f"{url}?schema={schema}"
    there_is_none = run_command("migrate", address)
    assert there_is_none.returncode == 1
    assert there_is_none.stderr.endswith("to create it there, add --create\n")
    script = run_command("migrate", address, "--create", "--dry-run").stdout
    assert tables(by_hand, schema) == set()
    created = run_command("migrate", address, "--create")
    done = [*(f"applied {name}" for name in NAMES), f"created the schema {schema}"]
    assert created.stdout.splitlines() == done
    again = run_command("migrate", address).stdout
    assert again == f"nothing was pending: {address} has schema version {len(NAMES)}\n"

    objects = objects_of(by_hand, schema)
    by_hand.execute(f"drop schema {schema} cascade".encode())
    by_hand.execute(script.encode())
    assert objects_of(by_hand, schema) == objects
    assert run_command("migrate", address).stdout == again


def objects_of(by_hand: psycopg.Connection[tuple[Any, ...]], schema: str) -> list[Any]:
    by_hand.execute("select set_config('search_path', 'public', false)")
    return by_hand.execute(
        "select relname, relkind, pg_get_viewdef(oid) from pg_class"
        " where relnamespace = cast(%s as regnamespace) order by relname",
        [schema],
    ).fetchall()


def test_a_view_that_somebody_dropped_is_made_again(
    url: str, schema: str, by_hand: psycopg.Connection[tuple[Any, ...]]
) -> None:
    from durable_workflow_sqlite.postgres.migrations import migrate

    migrate(url, schema=schema)
    objects = objects_of(by_hand, schema)
    by_hand.execute(f"drop view {schema}.workflow_overview cascade".encode())  # and of problems
    address = f"{url}?schema={schema}"
    found = run_command("doctor", address)
    assert "the view workflow_overview is missing; the view workflow_problems is" in found.stdout
    assert "create or replace view" in run_command("migrate", address, "--dry-run").stdout
    assert run_command("migrate", address).stdout == "made 2 missing views again\n"
    assert objects_of(by_hand, schema) == objects


def test_what_makes_no_sense_in_a_schema_is_refused(url: str, schema: str, tmp_path: Path) -> None:
    from durable_workflow_sqlite.postgres.migrations import migrate

    migrate(url, schema=schema)
    address = f"{url}?schema={schema}"
    for words, says in (
        (("migrate", address, "--backup", str(tmp_path / "copy")), "pg_dump --schema"),
        (("migrate", address, "--adopt"), "leave out --adopt"),
        (("backup", address, str(tmp_path / "copy")), "pg_dump --schema"),
        (("vacuum", address), "by itself"),
    ):
        refused = run_command(*words)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert says in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_shown_nowhere() -> None:
    for words in (
        ("list", "postgresql://kim:secret@127.0.0.1:1/nowhere"),
        ("migrate", "postgresql://kim@127.0.0.1:1/nowhere?password=secret"),
        ("doctor", "--db", "postgresql://kim:secret@127.0.0.1:1/nowhere"),
    ):
        refused = run_command(*words)
        assert refused.returncode == 1
        assert "127.0.0.1:1/nowhere" in refused.stderr
        assert "secret" not in refused.stderr
