"""`python -m durable_workflow_sqlite migrate`, as an operator's shell sees it."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import durable_workflow_sqlite
from durable_workflow_sqlite import SCHEMA_VERSION, __main__
from durable_workflow_sqlite.store import file_migration
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS
from durable_workflow_sqlite.store.migrations import load_migrations
from tests.commands import COMMAND, Running, prepare, run_command
from tests.dart_file import migrated, read_columns, read_rows, write_dart_file
from tests.migrations.content import content, migrate_to
from tests.other_user import become_another_user
from tests.processes import a_process

NAMES = [migration.name for migration in load_migrations()]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(durable_workflow_sqlite.__file__).parents[1])}


def migrate(
    *arguments: str | Path, cwd: Path | None = None, most_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command; no file that it writes may have more bytes than `most_bytes`."""

    limit = None
    if most_bytes is not None:
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    return run_command("migrate", *arguments, env=ENVIRONMENT, cwd=cwd, before=limit)


def assert_done(done: subprocess.CompletedProcess[str], *lines: str) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == list(lines)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str | Path) -> None:
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert str(word) in done.stderr


def applied(first: int = 1) -> list[str]:
    return [f"applied {name}" for name in NAMES[first - 1 :]]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def a_file_of_version(file: Path, version: int) -> Path:
    migrate_to(file, version)
    return file


def anothers_database(file: Path, version: int = 0) -> Path:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table customers (name text)")
        connection.execute(f"pragma user_version = {version}")
    return file


# What it does


def test_a_missing_file_is_created(file: Path) -> None:
    assert_done(migrate(file, "--create"), *applied(), f"created {file}")
    other = file.with_name("other.db")
    migrate_to(other, SCHEMA_VERSION)
    assert content(file) == content(other)
    assert names_in(file.parent) == ["other.db", "workflows.db"]


def test_no_file_is_created_unless_it_is_wanted(file: Path) -> None:
    for options in ([], ["--dry-run"], ["--backup", "copy.db"]):
        assert_refused(migrate(file, *options), f"there is no file {file}", "add --create")
        assert names_in(file.parent) == []


def test_create_changes_nothing_for_a_file_that_is_there(file: Path) -> None:
    a_file_of_version(file, 1)
    assert_done(migrate(file, "--create"), *applied(2))


def test_nothing_pending_is_said_and_the_file_left_as_it_is(file: Path) -> None:
    migrate(file, "--create")
    before = file.read_bytes()
    assert_done(migrate(file), f"nothing was pending: {file} has schema version {SCHEMA_VERSION}")
    assert file.read_bytes() == before


def test_an_empty_file_is_filled(file: Path) -> None:
    file.touch()
    assert_done(migrate(file), *applied())
    assert content(file)[0] == SCHEMA_VERSION


def test_a_file_of_the_dart_package_is_carried_forward(file: Path) -> None:
    write_dart_file(file)
    columns = read_columns(file)
    before = read_rows(file, columns)
    assert_done(migrate(file), *applied(2))
    assert migrated(read_rows(file, columns), columns) == migrated(before, columns)
    assert names_in(file.parent) == ["workflows.db"]


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["a b.db", "wörk 👋.db", "50%25?mode=ro#x.db", "file:x.db", "-x"])
def test_a_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    done = migrate("--create", "--", name, cwd=tmp_path)
    assert_done(done, *applied(), f"created {tmp_path / name}")
    assert names_in(tmp_path) == [name]
    assert content(tmp_path / name)[0] == SCHEMA_VERSION


def test_a_name_that_sqlite_reads_as_memory_is_a_file(tmp_path: Path) -> None:
    done = migrate(":memory:", "--create", cwd=tmp_path)
    assert_done(done, *applied(), f"created {tmp_path / ':memory:'}")
    assert names_in(tmp_path) == [":memory:"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to("real.db")
    assert_done(migrate(link, "--create"), *applied(), f"created {tmp_path / 'real.db'}")
    assert link.is_symlink()
    assert content(tmp_path / "real.db")[0] == SCHEMA_VERSION


def test_four_commands_at_once_share_the_work(file: Path) -> None:
    commands = [Running(["migrate", str(file), "--create"], ENVIRONMENT) for _ in range(4)]
    answers = [command.end() for command in commands]
    assert [one.returncode for one in answers] == [0] * 4, answers
    lines = [line for one in answers for line in one.stdout.splitlines()]
    assert sorted(line for line in lines if line.startswith("applied")) == applied()
    assert content(file)[0] == SCHEMA_VERSION


# --dry-run


@pytest.mark.parametrize("write", [Path.touch, write_dart_file])
def test_a_dry_run_prints_sql_that_does_the_same_and_changes_nothing(
    file: Path, write: Callable[[Path], None]
) -> None:
    write(file)
    before = file.read_bytes()
    dry = migrate(file, "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert file.read_bytes() == before
    assert names_in(file.parent) == ["workflows.db"]

    by_hand = file.with_name("by hand.db")
    shutil.copy(file, by_hand)
    with closing(sqlite3.connect(by_hand, isolation_level=None)) as connection:
        connection.executescript(dry.stdout)
    migrate(file)
    assert content(by_hand) == content(file)


def test_a_dry_run_prints_what_is_pending_and_no_more(file: Path) -> None:
    a_file_of_version(file, SCHEMA_VERSION - 1)
    printed = migrate(file, "--dry-run").stdout
    *older, last = load_migrations()
    assert last.sql() in printed
    assert f"-- {last.name}\n" in printed
    assert not [migration for migration in older if migration.sql() in printed]
    migrate(file)
    assert_done(migrate(file, "--dry-run"), "-- nothing is pending")


def test_a_dry_run_creates_no_file(file: Path) -> None:
    dry = migrate(file, "--dry-run", "--create")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert all(migration.sql() in dry.stdout for migration in load_migrations())
    assert names_in(file.parent) == []


def test_a_dry_run_refuses_what_migrating_refuses(file: Path) -> None:
    anothers_database(file)
    assert_refused(migrate(file, "--dry-run"), "another application")
    assert migrate(file, "--dry-run", "--adopt").returncode == 0
    assert_refused(migrate(file.parent / "none" / "x.db", "--dry-run"), "no folder")


# --backup


def test_a_backup_is_the_file_as_it_was(file: Path) -> None:
    write_dart_file(file)
    before = content(file)
    copy = file.with_name("copy.db")
    assert_done(migrate(file, "--backup", copy), f"copied {file} to {copy}", *applied(2))
    assert content(copy) == before
    assert content(file)[0] == SCHEMA_VERSION
    assert names_in(file.parent) == ["copy.db", "workflows.db"]


def test_a_backup_is_made_when_nothing_is_pending_too(file: Path) -> None:
    migrate(file, "--create")
    assert_done(
        migrate("workflows.db", "--backup", "copy.db", cwd=file.parent),
        f"copied {file} to copy.db",
        f"nothing was pending: {file} has schema version {SCHEMA_VERSION}",
    )
    assert content(file.with_name("copy.db")) == content(file)


def test_a_backup_holds_what_is_still_in_the_log(file: Path) -> None:
    write_dart_file(file)
    with closing(sqlite3.connect(file)) as still_open:
        still_open.execute("insert into workflows (workflow_id, workflow_type) values ('x', 'x')")
        still_open.commit()
        before = content(file)
        assert migrate(file, "--backup", file.with_name("copy.db")).returncode == 0
    assert content(file.with_name("copy.db")) == before


def test_a_backup_overwrites_nothing(file: Path) -> None:
    write_dart_file(file)
    before = content(file)
    copy = file.with_name("copy.db")
    copy.write_text("precious")
    assert_refused(migrate(file, "--backup", copy), copy, "is there already")
    assert copy.read_text() == "precious"
    assert_refused(migrate(file, "--backup", file), file, "is there already")
    assert_refused(migrate(file, "--backup", file.parent), file.parent, "is a folder")
    assert_refused(migrate(file, "--backup", file.parent / "no" / "x"), "no folder")
    assert content(file) == before


def test_a_new_file_needs_no_backup(file: Path) -> None:
    copy = file.with_name("copy.db")
    done = migrate(file, "--create", "--backup", copy)
    assert_done(done, f"copied nothing: {file} is new", *applied(), f"created {file}")
    assert names_in(file.parent) == ["workflows.db"]


def test_a_backup_that_could_not_be_completed_is_removed(file: Path) -> None:
    write_dart_file(file)
    before = content(file)
    copy = file.with_name("copy.db")
    done = migrate(file, "--backup", copy, most_bytes=file.stat().st_size - 4096)
    assert_refused(done, f"cannot copy {file} to {copy}", "room")
    assert content(file) == before
    assert names_in(file.parent) == ["workflows.db"]


def test_a_backup_may_be_read_by_no_more_than_the_file(file: Path) -> None:
    write_dart_file(file)
    file.chmod(0o600)
    copy = file.with_name("copy.db")
    assert migrate(file, "--backup", copy).returncode == 0
    assert copy.stat().st_mode & 0o777 == 0o600


def test_no_backup_is_made_of_what_is_refused(file: Path) -> None:
    anothers_database(file)
    assert_refused(migrate(file, "--backup", file.with_name("copy.db")), "another application")
    assert names_in(file.parent) == ["workflows.db"]


def test_a_backup_is_of_one_moment_while_others_write(file: Path) -> None:
    migrate(file, "--create")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table a (x integer, filler blob)")
        connection.execute("create table b (x integer, filler blob)")

    def write(say: Callable[[str], None]) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            number = 0
            while True:
                number += 1
                connection.execute("begin immediate")
                connection.execute("insert into a values (?, zeroblob(2000))", (number,))
                connection.execute("insert into b values (?, zeroblob(2000))", (number,))
                connection.execute("commit")
                if number == 100:
                    say("writing")

    counts = []
    with a_process(write) as writer:
        assert writer.hear() == "writing"
        for attempt in range(4):
            copy = file.with_name(f"copy {attempt}.db")
            assert migrate(file, "--backup", copy).returncode == 0
            assert content(copy)[0] == SCHEMA_VERSION
            with closing(sqlite3.connect(copy)) as connection:
                ((in_a,), (in_b,)) = connection.execute(
                    "select count(*) from a union all select count(*) from b"
                ).fetchall()
            assert in_a == in_b
            counts.append(in_a)
    assert counts == sorted(set(counts)), "the writer should have written in between"


# What it refuses


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(migrate(tmp_path / "none" / "x.db"), "no folder", tmp_path / "none", "create")
    assert names_in(tmp_path) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(migrate(tmp_path), tmp_path, "is a folder")
    assert_refused(migrate(""), "is a folder")
    assert names_in(tmp_path) == []


def test_a_file_as_a_folder_is_refused(file: Path) -> None:
    file.touch()
    assert_refused(migrate(file / "x.db"), "no folder", file)


def test_a_file_that_is_no_database_is_refused(file: Path) -> None:
    file.write_text("Dear diary,\n" * 1000)
    before = file.read_bytes()
    assert_refused(migrate(file), file, "not a SQLite database", "another path")
    assert file.read_bytes() == before
    assert names_in(file.parent) == ["workflows.db"]


def test_a_damaged_file_is_refused(file: Path) -> None:
    a_file_of_version(file, 1)
    damaged = bytearray(file.read_bytes())
    damaged[100:4096] = b"\xff" * 3996
    file.write_bytes(damaged)
    assert_refused(migrate(file), file, "damaged", "backup")
    assert file.read_bytes() == damaged


@pytest.mark.parametrize("version", [0, 7])
def test_the_database_of_another_application_is_refused(file: Path, version: int) -> None:
    anothers_database(file, version)
    before = file.read_bytes()
    assert_refused(migrate(file), file, "belongs to another application")
    assert file.read_bytes() == before
    assert names_in(file.parent) == ["workflows.db"]


def test_the_database_of_another_application_can_be_adopted(file: Path) -> None:
    anothers_database(file)
    assert "--adopt" in migrate(file).stderr
    assert_done(migrate(file, "--adopt"), *applied())
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select count(*) from customers").fetchone() == (0,)


def test_a_database_with_another_applications_version_is_not_adopted(file: Path) -> None:
    anothers_database(file, 7)
    before = file.read_bytes()
    assert_refused(migrate(file, "--adopt"), "another application", "schema version 7")
    assert file.read_bytes() == before


def test_a_newer_file_is_refused(file: Path) -> None:
    a_file_of_version(file, SCHEMA_VERSION)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma user_version = 99")
    before = file.read_bytes()
    assert_refused(migrate(file), file, "version 99", f"up to {SCHEMA_VERSION};", "update")
    assert file.read_bytes() == before


# Locks


@contextmanager
def locked(file: Path, lock: str, seconds: float = 60) -> Iterator[None]:
    def hold(say: Callable[[str], None]) -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute(f"begin {lock}")
            say("locked")
            time.sleep(seconds)
            connection.execute("rollback")

    with a_process(hold) as process:
        assert process.hear() == "locked"
        yield


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
@pytest.mark.parametrize("lock", ["immediate", "exclusive"])
@pytest.mark.parametrize("backup", [False, True])
def test_a_file_that_is_locked_for_too_long_is_refused(
    file: Path, journal_mode: str, lock: str, backup: bool
) -> None:
    a_file_of_version(file, 1)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"pragma journal_mode = {journal_mode}")
    before = content(file)
    copy = file.with_name("copy.db")
    with locked(file, lock):
        start = time.monotonic()
        done = migrate(file, "--busy-timeout", "0.2", *(["--backup", copy] if backup else []))
        assert 0.2 <= time.monotonic() - start < BUSY_TIMEOUT_MS / 1000
    if copy.exists():  # since nothing that is locked was read
        assert done.stdout == f"copied {file} to {copy}\n"
        assert content(copy) == before
        done.stdout = ""
    assert_refused(done, file, "someone else holds its lock")
    assert content(file) == before


def test_a_lock_that_is_let_go_of_in_time_is_waited_for(file: Path) -> None:
    a_file_of_version(file, 1)
    with locked(file, "exclusive", seconds=0.3):
        assert_done(migrate(file, "--busy-timeout", "30"), *applied(2))


# Full disks


@pytest.mark.few(2)
@pytest.mark.parametrize("most_bytes", [0, 512, 4096, 8192, 20_000, 40_000])
def test_a_new_file_that_finds_no_room_leaves_nothing_or_a_whole_version(
    file: Path, most_bytes: int
) -> None:
    done = migrate(file, "--create", most_bytes=most_bytes)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "room" in done.stderr
    whole = done.stdout.splitlines()
    assert whole == applied()[: len(whole)]
    if whole:
        assert content(file)[0] == len(whole)
        assert names_in(file.parent) == ["workflows.db"]
    else:
        assert names_in(file.parent) == []
    created = [] if whole else [f"created {file}"]
    assert_done(migrate(file, "--create"), *applied(len(whole) + 1), *created)


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_a_file_that_finds_no_room_is_as_it_was(file: Path, journal_mode: str) -> None:
    write_dart_file(file)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"pragma journal_mode = {journal_mode}")
    before = content(file)
    assert_refused(migrate(file, most_bytes=8192), file, "room")
    assert content(file) == before
    assert names_in(file.parent) == ["workflows.db"]


@pytest.mark.few(2)
@pytest.mark.parametrize("pages", [1, 2, 4, 8])
def test_a_full_file_system_leaves_nothing_behind(tmp_path: Path, pages: int) -> None:
    script = (
        f'mount -t tmpfs -o size={pages * 4}k none "$1" || exit 77;'
        ' folder=$1; shift; "$@"; code=$?; ls -A "$folder"; exit $code'
    )
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare, to mount in a corner of its own")
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", script, "sh", tmp_path),
            *(*COMMAND, "migrate", "--create", tmp_path / "workflows.db"),
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare"):
        pytest.skip("this process may not mount")
    assert_refused(done, tmp_path / "workflows.db", "disk is full", "make room")


def test_a_new_file_that_somebody_else_fills_is_not_removed(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others: list[sqlite3.Connection] = []
    really_apply = file_migration.apply

    def somebody_comes_first(*arguments: Any, **options: Any) -> None:
        other = sqlite3.connect(file, isolation_level=None)
        others.append(other)
        other.execute("begin immediate")
        other.execute("create table precious (x integer)")
        assert file.stat().st_size == 0
        really_apply(*arguments, **options)

    monkeypatch.setattr(file_migration, "apply", somebody_comes_first)
    assert __main__.main(["migrate", str(file), "--create", "--busy-timeout", "0.05"]) == 1
    assert "someone else holds its lock" in capsys.readouterr().err
    (other,) = others
    other.execute("commit")
    other.close()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("select count(*) from precious").fetchone() == (0,)


# Rights


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder where every user may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def migrate_without_rights(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user who is not root, since root may write everything."""

    def run(say: Callable[[str], None]) -> None:
        become_another_user()
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = __main__.main(["migrate", *map(str, arguments)])
        say(json.dumps([code, out.getvalue(), err.getvalue()]))

    prepare()  # another user may not be able to read what is imported
    with a_process(run) as process:
        code, out, err = json.loads(process.hear())
    return subprocess.CompletedProcess([], code, out, err)


def test_a_read_only_file_is_refused(open_folder: Path) -> None:
    file = a_file_of_version(open_folder / "workflows.db", 1)
    file.chmod(0o444)
    before = file.read_bytes()
    assert_refused(migrate_without_rights(file), file, "read-only", "the right to write")
    assert file.read_bytes() == before
    assert names_in(open_folder) == ["workflows.db"]


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_read_only_file_that_needs_nothing_is_read(
    open_folder: Path, arguments: tuple[str, ...]
) -> None:
    file = a_file_of_version(open_folder / "workflows.db", SCHEMA_VERSION)
    file.chmod(0o444)
    done = migrate_without_rights(file, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing" in done.stdout
    assert names_in(open_folder) == ["workflows.db"]


def test_a_file_that_may_not_be_read_is_refused(open_folder: Path) -> None:
    file = a_file_of_version(open_folder / "workflows.db", 1)
    file.chmod(0)
    assert_refused(migrate_without_rights(file), file, "cannot be opened")


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_a_file_in_a_read_only_folder_is_refused(open_folder: Path, journal_mode: str) -> None:
    file = a_file_of_version(open_folder / "workflows.db", 1)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"pragma journal_mode = {journal_mode}")
    file.chmod(0o666)
    open_folder.chmod(0o555)
    before = file.read_bytes()
    assert_refused(migrate_without_rights(file), file, "folder")
    assert file.read_bytes() == before
    assert names_in(open_folder) == ["workflows.db"]


def test_a_new_file_in_a_read_only_folder_is_refused(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    done = migrate_without_rights(open_folder / "x.db", "--create")
    assert_refused(done, open_folder, "Permission denied")


def test_a_backup_into_a_read_only_folder_is_refused(open_folder: Path) -> None:
    file = a_file_of_version(open_folder / "workflows.db", 1)
    file.chmod(0o666)
    before = content(file)
    locked_folder = open_folder / "locked"
    locked_folder.mkdir(0o555)
    copy = locked_folder / "copy.db"
    assert_refused(migrate_without_rights(file, "--backup", copy), copy, "Permission denied")
    assert content(file) == before


# Usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["migrate"],
        ["migrate", "a.db", "b.db"],
        ["migrate", "a.db", "--unknown"],
        ["migrate", "a.db", "--dry"],
        ["migrate", "a.db", "--backup"],
        ["migrate", "a.db", "--dry-run", "--backup", "copy.db"],
        *(["migrate", "a.db", "--busy-timeout", value] for value in ("x", "-1", "nan", "inf", "")),
        ["polish", "a.db"],
        [],
    ],
)
def test_wrong_usage_exits_with_2_and_touches_nothing(tmp_path: Path, arguments: list[str]) -> None:
    done = run_command(*arguments, env=ENVIRONMENT, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(("Usage: ", "Error: Option "))
    assert names_in(tmp_path) == []


def test_help_says_what_there_is(tmp_path: Path) -> None:
    done = migrate("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for option in (
        "FILE",
        "--db FILE",
        "--create",
        "--dry-run",
        "--backup PATH",
        "--adopt",
        "--busy-timeout SECONDS",
    ):
        assert option in done.stdout
