"""The views: made with the last migration; `migrate` makes one again that was dropped or edited."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    SCHEMA_VERSION,
    MigrationError,
    SqliteCheckpointStore,
    StoreError,
    __main__,
    migrate,
    validate_schema,
)
from durable_workflow_sqlite.store import file_migration, migrations
from durable_workflow_sqlite.store.connection import configure
from durable_workflow_sqlite.store.migrations import (
    apply,
    load_migrations,
    load_views,
    rebuild_views,
)
from tests.databases import new_database
from tests.migrations.content import content, migrate_to, old_versions
from tests.migrations.test_command import migrate as run_migrate

VIEWS = [view.name for view in load_views()]
EDITED = "create view workflow_blocked as select 1 as workflow_execution_id"

THEIRS = (
    "create trigger theirs instead of delete on workflow_blocked"
    " begin delete from workflow_claims where worker_id = 'w'; end"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return new_database(tmp_path / "workflows.db")


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as opened:
        configure(opened)
        yield opened


def schema(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(connection.execute("select name, sql from sqlite_schema where sql is not null"))


def test_every_view_can_be_made_again(connection: sqlite3.Connection) -> None:
    before = schema(connection)
    for view in VIEWS:
        connection.execute(f"drop view {view}")
    assert sorted(rebuild_views(connection)) == VIEWS
    assert schema(connection) == before
    assert rebuild_views(connection) == []


def test_what_is_missing_or_edited_is_named_and_made_again(connection: sqlite3.Connection) -> None:
    before = schema(connection)
    connection.execute("drop view workflow_queue")
    connection.execute("drop view workflow_blocked")
    connection.execute(EDITED)
    connection.execute("create view mine as select 1 as one")  # stays as it is
    assert validate_schema(connection) == [
        "the view workflow_blocked is different; `durable-workflow migrate` creates it again",
        "the view workflow_queue is missing; `durable-workflow migrate` creates it again",
    ]
    assert migrate(connection) == []
    assert validate_schema(connection) == []
    assert schema(connection) - before == {("mine", "CREATE VIEW mine as select 1 as one")}


def test_opening_a_file_leaves_its_views_as_they_are(
    file: Path, connection: sqlite3.Connection
) -> None:
    connection.execute("drop view workflow_queue")
    before = schema(connection)
    SqliteCheckpointStore.file(file)
    assert schema(connection) == before


def test_the_command_says_which_it_made_and_a_dry_run_prints_them(
    file: Path, connection: sqlite3.Connection
) -> None:
    connection.execute("drop view workflow_blocked")
    connection.execute(EDITED)
    dry = run_migrate(file, "--dry-run")
    assert dry.returncode == 0
    assert "create view workflow_blocked as\nselect\n" in dry.stdout
    assert dry.stdout.count("create view") == 1
    assert connection.execute("select * from workflow_blocked").fetchall() == [(1,)]
    done = run_migrate(file)
    assert (done.returncode, done.stdout) == (0, "made the view workflow_blocked again\n")
    assert connection.execute("select * from workflow_blocked").fetchall() == []
    done = run_migrate(file)
    assert done.stdout.startswith("nothing was pending")


def test_a_table_in_the_place_of_a_view_is_not_changed(connection: sqlite3.Connection) -> None:
    connection.execute("drop view workflow_queue")
    connection.execute("drop view workflow_blocked")
    connection.execute("create table workflow_queue (mine text)")
    before = schema(connection)
    with pytest.raises(MigrationError, match="a table workflow_queue, where the library has a"):
        migrate(connection)
    assert schema(connection) == before


@pytest.mark.parametrize("version", old_versions(10))
def test_a_file_whose_views_somebody_dropped_is_migrated_and_has_them_again(
    tmp_path: Path, version: int
) -> None:
    file = tmp_path / "old.db"
    migrate_to(file, version)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for (view,) in connection.execute(
            "select name from sqlite_schema where type = 'view'"
        ).fetchall():
            connection.execute(f"drop view {view}")
        if version < 13:
            connection.execute("drop index if exists idx_step_cp_cut_off")
        configure(connection)
        assert migrate(connection) == list(range(version + 1, SCHEMA_VERSION + 1))
        assert rebuild_views(connection) == []
        assert validate_schema(connection) == []


def test_the_last_migration_makes_the_views_that_differ(tmp_path: Path) -> None:
    """And those alone: in its own transaction, so a file of the newest version has the newest."""
    every = load_migrations()
    (blocked,) = (view for view in load_views() if view.name == "workflow_blocked")
    newer = blocked._replace(create=f"create view {blocked.name} as\nselect 1 as one;\n")
    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as connection:
        connection.execute("create view mine as select 1 as one")

        def apply_to(version: int) -> None:
            apply(connection, every[:version], lambda: [newer], adopt=True, on_applied=print)

        apply_to(SCHEMA_VERSION - 1)
        assert connection.execute("select * from workflow_blocked").fetchall() == [(1,)]
        connection.execute("drop view workflow_blocked")
        connection.execute(blocked.create)
        connection.execute(THEIRS)
        before = schema(connection)
        apply_to(SCHEMA_VERSION - 1)
        assert schema(connection) == before, "what has the version is left alone"
        broken = newer._replace(create=f"create view {newer.name} as\nselect from;\n")
        with pytest.raises(StoreError):
            apply(connection, every, lambda: [broken], on_applied=print)
        assert schema(connection) == before, "the migration is taken back with its views"
        apply_to(SCHEMA_VERSION)
        assert connection.execute("select * from workflow_blocked").fetchall() == [(1,)]
        assert {name for name, _ in schema(connection)} >= {"mine", "theirs"}


def test_a_dry_run_prints_the_views_that_the_last_migration_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (blocked,) = (view for view in load_views() if view.name == "workflow_blocked")
    newer = blocked._replace(create=f"create view {blocked.name} as\nselect 1 as one;\n")
    for module in (migrations, file_migration):
        monkeypatch.setattr(module, "load_views", lambda: [newer])
    file, by_hand = tmp_path / "old.db", tmp_path / "by hand.db"
    for one in (file, by_hand):
        migrate_to(one, SCHEMA_VERSION - 1)
    assert __main__.main(["migrate", str(file), "--dry-run"]) == 0
    script = capsys.readouterr().out
    assert script.count("create view workflow_blocked as") == 1
    with closing(sqlite3.connect(by_hand, isolation_level=None)) as connection:
        connection.executescript(script)
        assert connection.execute("select one from workflow_blocked").fetchall() == [(1,)]
    assert __main__.main(["migrate", str(file)]) == 0
    assert content(by_hand) == content(file)


@pytest.mark.parametrize("available_at", ["null", "'2998-01-01T00:00:00.000000Z'"])
def test_a_signal_of_the_future_wakes_its_execution_now(
    connection: sqlite3.Connection, available_at: str
) -> None:
    for statement in (
        "insert into workflows (workflow_id, workflow_type) values ('order:1', 'order')",
        "insert into workflow_executions (workflow_execution_id, workflow_id, status, guarantee,"
        " available_at) values ('e', 'order:1', 'RUNNING', 'BEST_EFFORT_BACKGROUND',"
        f" {available_at})",
        "insert into workflow_signals (workflow_execution_id, signal_name, created_at)"
        " values ('e', 'go', '2999-01-01T00:00:00.000000Z')",
    ):
        connection.execute(statement)
    assert connection.execute(
        "select available_at <= strftime('%Y-%m-%dT%H:%M:%f999Z', 'now') from workflow_executions"
    ).fetchone() == (1,)
