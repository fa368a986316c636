"""Folders of migrations: what is taken, what is refused, and what a failing one leaves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import MigrationError, StoreError
from durable_workflow_sqlite.store.migration_files import Migration, MigrationFileError
from durable_workflow_sqlite.store.migrations import apply, load_migrations
from tests.migrations.content import content, migrate_with

NOTES = "create table notes (id integer primary key, words text not null);\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of migrations that begins well."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "001_create_notes.sql").write_text(NOTES)
    return folder


def migration(tmp_path: Path, sql: str) -> Migration:
    path = tmp_path / "001_do_something.sql"
    path.write_text(sql)
    return Migration(1, path)


# Names and numbers


def test_migrations_come_in_the_order_of_their_numbers(folder: Path) -> None:
    (folder / "003_drop_notes.sql").touch()
    (folder / "002_fill_notes.sql").touch()
    (folder / "checksums.txt").touch()
    assert [(m.version, m.name) for m in load_migrations(folder)] == [
        (1, "001_create_notes"),
        (2, "002_fill_notes"),
        (3, "003_drop_notes"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "003_leave_a_gap.sql",
        "001_be_a_twin.sql",
        "000_begin_at_zero.sql",
        "2_have_no_zeros.sql",
        "0002_have_too_many.sql",
        "002.sql",
        "002-take-dashes.sql",
        "002_two words.sql",
        "add_number.sql",
        "002_a.b.sql",
    ],
)
def test_a_name_out_of_order_is_refused(folder: Path, name: str) -> None:
    (folder / name).touch()
    with pytest.raises(MigrationError, match="numbers go from 001 without gaps or repeats"):
        load_migrations(folder)


def test_a_folder_without_migrations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="holds no migrations"):
        load_migrations(tmp_path)
    with pytest.raises(MigrationError, match="holds no migrations"):
        load_migrations(tmp_path / "nowhere")


# Statements


def test_statements_are_parted_where_they_end_and_know_their_lines(tmp_path: Path) -> None:
    statements = migration(
        tmp_path,
        "-- A comment; with a semicolon.\n"
        "\n"
        "create table a (\n"
        "    x text default ';'  -- not here;\n"
        ");  -- the end\n"
        "  -- another comment\n"
        "create table b (y);\n",
    ).statements()
    assert [statement.line for statement in statements] == [3, 7]
    assert [statement.text.splitlines()[0] for statement in statements] == [
        "create table a (",
        "create table b (y);",
    ]


def test_a_trigger_is_kept_whole(tmp_path: Path) -> None:
    sql = (
        "create table a (x);\n"
        "create trigger a_twice after insert on a when new.x < 10\n"
        "begin\n"
        "    insert into a values (new.x + 10);\n"
        "    insert into a values (new.x + 20);\n"
        "end;\n"
        "insert into a values (1);\n"
    )
    one = migration(tmp_path, sql)
    assert [statement.line for statement in one.statements()] == [1, 2, 7]
    file = tmp_path / "file"
    assert migrate_with(file, [one]) == [1]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select x from a order by x").fetchall() == [(1,), (11,), (21,)]


@pytest.mark.parametrize(
    "line",
    [
        "create table b (x); create table c (x);",
        "create table b (x); create table c (",
        "create table b (x);; ",
    ],
)
def test_two_statements_on_one_line_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(MigrationFileError, match=r"001_do_something.sql, line 2, holds more"):
        migration(tmp_path, f"create table a (x);\n{line}\nx);\n").statements()


@pytest.mark.parametrize(
    "sql",
    [
        "create table a (x);\n\ncreate table b (x)\n",
        "create table a (x);\n\ninsert into a values ('never closed);\n",
        "create table a (x);\n\ncreate trigger t after insert on a\nbegin\n    select 1;\n",
    ],
)
def test_a_statement_without_an_end_is_refused_and_nothing_is_applied(
    tmp_path: Path, sql: str
) -> None:
    one = migration(tmp_path, sql)
    file = tmp_path / "file"
    with pytest.raises(MigrationError, match=r"001_do_something.sql, line 3, begins a statement"):
        migrate_with(file, [one])
    assert content(file)[0] == 0


@pytest.mark.parametrize(
    "statement",
    [
        "commit;",
        "  BEGIN immediate;",
        "/* all of it */ end;",
        "savepoint one;",
        "pragma user_version = 7;",
    ],
)
def test_what_the_runner_does_by_itself_is_refused_and_nothing_is_applied(
    folder: Path, file: Path, statement: str
) -> None:
    (folder / "002_do_it_alone.sql").write_text(f"create table more (x);\n{statement}\n")
    with pytest.raises(MigrationError, match=r"002_do_it_alone.sql, line 2, holds `\w+`") as caught:
        migrate_with(file, load_migrations(folder))
    assert caught.value.version == 2
    assert content(file)[0] == 1


# Failures


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("insert into notes (words) values (null);", "NOT NULL constraint failed"),
        ("insert into no_such_table values (1);", "no such table"),
        ("create table notes (id integer);", "already exists"),
        ("selec 1;", "syntax error"),
    ],
)
def test_a_migration_that_fails_leaves_the_file_as_it_was(
    folder: Path, file: Path, line: str, why: str
) -> None:
    migrate_with(file, load_migrations(folder))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("insert into notes (words) values ('keep me')")
        connection.commit()
    before = content(file)
    (folder / "002_break.sql").write_text(
        "alter table notes add column author text;\n"
        "update notes set words = 'changed';\n"
        "\n"
        "create table more (id integer primary key);\n"
        "-- The next one fails.\n"
        f"{line}\n"
        "create table even_more (id integer primary key);\n"
    )
    with pytest.raises(MigrationError) as caught:
        migrate_with(file, load_migrations(folder))
    assert caught.value.version == 2
    assert "002_break.sql failed at line 6" in str(caught.value)
    assert why in str(caught.value)
    assert content(file) == before


def test_what_was_applied_before_a_failing_migration_stays(folder: Path, file: Path) -> None:
    (folder / "002_fill_notes.sql").write_text("insert into notes (words) values ('two');\n")
    before_failing = load_migrations(folder)
    (folder / "003_break.sql").write_text("drop table notes;\ndrop table notes;\n")
    (folder / "004_never.sql").write_text("create table never (x);\n")
    applied: list[int] = []
    with (
        closing(sqlite3.connect(file)) as connection,
        pytest.raises(MigrationError, match=r"003_break.sql failed at line 2"),
    ):
        apply(connection, load_migrations(folder), on_applied=lambda m: applied.append(m.version))
    assert applied == [1, 2]
    other = file.with_name("other")
    migrate_with(other, before_failing)
    assert content(file) == content(other)

    (folder / "003_break.sql").write_text("delete from notes;\n")
    assert migrate_with(file, load_migrations(folder)) == [3, 4]


def test_a_failing_rollback_does_not_hide_the_error(folder: Path, file: Path) -> None:
    def no_rollback(action: int, what: str | None, *_: str | None) -> int:
        if (action, what) == (sqlite3.SQLITE_TRANSACTION, "ROLLBACK") and failing:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    migrate_with(file, load_migrations(folder))
    before = content(file)
    (folder / "002_break.sql").write_text("drop table notes;\ndrop table notes;\n")
    failing = False
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.set_authorizer(no_rollback)

        def fail_from_here(statement: str) -> None:
            nonlocal failing
            failing = failing or statement.startswith("drop table")

        connection.set_trace_callback(fail_from_here)
        with pytest.raises(MigrationError, match=r"002_break.sql failed at line 2: no such table"):
            apply(connection, load_migrations(folder), on_applied=lambda _: None)
        assert connection.in_transaction, "the rollback should have failed, too"
    assert content(file) == before


def test_a_migration_that_breaks_a_reference_is_taken_back(folder: Path, file: Path) -> None:
    (folder / "002_add_replies.sql").write_text(
        "create table replies (note integer references notes (id));\n"
        "insert into notes (id, words) values (1, 'one'), (2, 'two');\n"
        "insert into replies values (1), (2), (2);\n"
    )
    migrate_with(file, load_migrations(folder))
    before = content(file)
    (folder / "003_delete_note.sql").write_text("delete from notes where id = 2;\n")
    with pytest.raises(MigrationError) as caught:
        migrate_with(file, load_migrations(folder))
    assert caught.value.version == 3
    message = str(caught.value)
    assert "003_delete_note.sql" in message
    assert "exist: 2, the first in table replies, to table notes" in message
    assert content(file) == before


def test_a_table_that_others_refer_to_can_be_rebuilt(folder: Path, file: Path) -> None:
    (folder / "002_add_replies.sql").write_text(
        "create table replies (note integer not null references notes (id) on delete cascade);\n"
        "insert into notes (id, words) values (1, 'one');\n"
        "insert into replies values (1);\n"
    )
    (folder / "003_rebuild_notes.sql").write_text(
        "create table new_notes (id integer primary key, words text);\n"
        "insert into new_notes select id, words from notes;\n"
        "drop table notes;\n"
        "alter table new_notes rename to notes;\n"
    )
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma foreign_keys = on")
        apply(connection, load_migrations(folder), on_applied=lambda _: None)
        assert connection.execute("select note from replies").fetchall() == [(1,)]
        assert connection.execute("pragma foreign_keys").fetchone() == (1,)
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute("insert into replies values (7)")


def test_an_interrupt_in_the_middle_leaves_the_file_as_it_was(folder: Path, file: Path) -> None:
    migrate_with(file, load_migrations(folder))
    before = content(file)
    (folder / "002_take_long.sql").write_text(
        "create table many (x integer);\n"
        "insert into many\n"
        "with recursive n (x) as (select 1 union all select x + 1 from n limit 1000000)\n"
        "select x from n;\n"
    )
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.set_progress_handler(lambda: 1, 100_000)
        with pytest.raises(StoreError, match="interrupted"):
            apply(connection, load_migrations(folder), on_applied=lambda _: None)
        connection.set_progress_handler(None, 0)
        assert not connection.in_transaction
        assert content(file) == before
