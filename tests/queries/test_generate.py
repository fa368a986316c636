"""tools/generate.py, as `make generate` runs it, on a copy of what it reads and writes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree

import pytest

import generate
from durable_workflow_sqlite import SCHEMA_VERSION
from generate import (
    COLUMNS,
    MIGRATIONS,
    OF_POSTGRES,
    QUERIES,
    ROOT,
    VIEW_CHECKSUMS,
    generated,
)
from generate_queries import OUTPUT
from generate_schema import SCHEMA
from generate_tables import OUTPUT as DOCUMENT

CHECKSUMS = MIGRATIONS / "checksums.txt"
OF_PG_MIGRATIONS = OF_POSTGRES / "migrations" / "checksums.txt"
OF_PG_VIEWS = OF_POSTGRES / "views" / "checksums.txt"
WRITTEN = (OUTPUT, SCHEMA, CHECKSUMS, VIEW_CHECKSUMS, DOCUMENT, OF_PG_MIGRATIONS, OF_PG_VIEWS)
NEXT = f"{SCHEMA_VERSION + 1:03}_add_notes.sql"
NOTES = "-- What people say.\ncreate table notes (words text) strict;\n"
NOTES_MEANING = "\n-- notes: what people say\n-- words  what one said\n"


@dataclass
class Done:
    returncode: int
    stdout: str


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def small_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what it reads and writes, with the queries of one table: to read all takes long."""
    project = tmp_path_factory.mktemp("project")
    for folder in ("sql", str(OUTPUT.parent)):
        copytree(ROOT / folder, project / folder)
    (project / DOCUMENT).parent.mkdir()
    for file in (DOCUMENT, Path("pyproject.toml")):
        copy(ROOT / file, project / file)
    for queries in (project / QUERIES).glob("*.sql"):
        if queries.name != "workflows.sql":
            queries.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        texts, problems = generated()
    assert not problems
    (project / OUTPUT).write_text(texts[OUTPUT], encoding="utf-8")
    return project


@pytest.fixture
def project(small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project of its own; it works there."""
    project = tmp_path / "project"
    copytree(small_project, project)
    monkeypatch.setattr(generate, "ROOT", project)
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["generate.py", *arguments])
        code = generate.main()
        said = capsys.readouterr()
        assert said.err == ""
        return Done(code, said.out)

    return run


def written(project: Path) -> list[str]:
    return [(project / path).read_text(encoding="utf-8") for path in WRITTEN]


def refusal(project: Path, run: Run) -> str:
    """What it says of a project that it refuses, whether it may write or not; it writes nothing."""
    before = written(project)
    said: set[str] = set()
    for arguments in ([], ["--check"]):
        refused = run(*arguments)
        assert refused.returncode == 1
        assert written(project) == before
        said.add(refused.stdout)
    (message,) = said
    return message


@pytest.mark.campaign
def test_what_is_committed_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    texts, problems = generated()
    assert not problems
    assert set(texts) == set(WRITTEN)
    for path, text in texts.items():
        assert path.read_text(encoding="utf-8") == text


@pytest.mark.campaign
def test_a_check_says_what_differs_and_writes_nothing(project: Path, run: Run) -> None:
    assert run("--check").returncode == 0
    query = project / QUERIES / "workflows.sql"
    query.write_text(query.read_text().replace("One definition by its id.", "By its id."))
    before = written(project)
    checked = run("--check")
    assert checked.returncode == 1
    assert f"{OUTPUT}: out of date; run `make generate`" in checked.stdout
    assert '+        """By its id."""' in checked.stdout
    assert written(project) == before

    assert run().returncode == 0
    assert run("--check").returncode == 0
    assert (project / OUTPUT).read_text() == before[0].replace(
        "One definition by its id.", "By its id."
    )


def test_a_new_migration_is_written_everywhere_at_once(project: Path, run: Run) -> None:
    (project / MIGRATIONS / NEXT).write_text(NOTES)
    with (project / COLUMNS).open("a") as columns:
        columns.write(NOTES_MEANING)
    assert run().returncode == 0
    assert run("--check").returncode == 0
    assert (
        "create table notes (\n    words text  -- what one said\n" in (project / SCHEMA).read_text()
    )
    assert f"schema of version {SCHEMA_VERSION + 1}," in (project / SCHEMA).read_text()
    assert (project / CHECKSUMS).read_text().endswith(f"  {NEXT}\n")
    assert "| `words` | what one said |" in (project / DOCUMENT).read_text()


def test_a_generated_module_in_pieces_is_written_anew(project: Path, run: Run) -> None:
    before = written(project)
    (project / OUTPUT).write_text("<<<<<<< ours\n")
    assert run().returncode == 0
    assert written(project) == before


# Views


def blocked_of(project: Path) -> Path:
    return project / "sql/views/workflow_blocked.sql"


@pytest.mark.campaign
def test_a_view_that_changes_needs_a_migration_and_a_comment_of_it_does_not(
    project: Path, run: Run
) -> None:
    view = blocked_of(project)
    text = view.read_text()
    view.write_text(text.replace("  why\n", "  why they do\n"))
    assert run().returncode == 0
    view.write_text(text.replace("    execution.recovery_count,", "    recovery_count,"))
    message = refusal(project, run)
    assert (
        f"sql/views/workflow_blocked.sql: changed, and files of version {SCHEMA_VERSION}" in message
    )
    assert f"write {SCHEMA_VERSION - 1} into the first line of {VIEW_CHECKSUMS}" in message

    (project / MIGRATIONS / NEXT).write_text("-- workflow_blocked reads the same otherwise.\n")
    assert run().returncode == 0
    assert (
        (project / VIEW_CHECKSUMS).read_text().startswith(f"# schema version {SCHEMA_VERSION + 1}")
    )
    assert run("--check").returncode == 0
    view.write_text(text)
    assert "workflow_blocked.sql: changed" in refusal(project, run)


def test_a_new_view_needs_a_migration(project: Path, run: Run) -> None:
    (project / "sql/views/notes.sql").write_text(
        "-- notes: what people say.\n--\n-- one  integer  one\n\n"
        "drop view if exists notes;\n\ncreate view notes as\nselect 1 as one;\n"
    )
    refused = run()
    assert refused.returncode == 1
    assert "sql/views/notes.sql: is new, and files of version" in refused.stdout
    (project / MIGRATIONS / NEXT).write_text("-- The view notes.\n")
    assert run().returncode == 0
    assert "### notes\n\nWhat people say.\n" in (project / DOCUMENT).read_text()


def test_a_view_that_goes_is_dropped_by_a_migration(project: Path, run: Run) -> None:
    blocked_of(project).unlink()
    said = run().stdout
    assert "the migrations make the view workflow_blocked, and it has no file" in said
    assert "`drop view if exists workflow_blocked;` to a new migration" in said
    (project / MIGRATIONS / NEXT).write_text(
        "-- Nobody asks.\n\ndrop view if exists workflow_blocked;\n"
    )
    said = run().stdout
    assert "workflow_blocked.sql" not in said, said


@pytest.mark.campaign
def test_what_landed_for_postgres_is_kept_by_the_same_rules(project: Path, run: Run) -> None:
    view = project / OF_POSTGRES / "views/workflow_blocked.sql"
    text = view.read_text()
    view.write_text(text.replace("    execution.recovery_count,", "    recovery_count,"))
    message = refusal(project, run)
    assert f"{OF_POSTGRES}/views/workflow_blocked.sql: changed, and files of version" in message

    view.write_text(text.replace("create or replace view", "create view"))
    message = refusal(project, run)
    assert "and then `create or replace view durable_workflow.workflow_blocked as ...`" in message

    view.unlink()
    version = len(list((project / OF_POSTGRES / "migrations").glob("*.sql")))
    following = project / OF_POSTGRES / f"migrations/{version + 1:03}_drop_a_view.sql"
    following.write_text("-- Nobody asks.\n")
    assert "workflow_blocked.sql: is gone; add `drop view" in run().stdout
    following.write_text("drop view if exists durable_workflow.workflow_blocked;\n")
    assert run().returncode == 0

    landed = project / OF_POSTGRES / "migrations/001_create_tables.sql"
    landed.write_text(landed.read_text() + "create table durable_workflow.notes (words text);\n")
    assert f"{landed.relative_to(project)}: its text has changed" in refusal(project, run)


def test_a_view_that_cannot_be_made_is_refused(project: Path, run: Run) -> None:
    view = blocked_of(project)
    view.write_text(view.read_text().replace("execution.recovery_count,", "execution.recoveries,"))
    message = refusal(project, run)
    assert "sql/views/workflow_blocked.sql: no such column: execution.recoveries" in message


# What is refused before anything is written


@pytest.mark.parametrize(
    "name", [f"{SCHEMA_VERSION + 2:03}_leave_a_gap.sql", f"{SCHEMA_VERSION:03}_zz_be_a_twin.sql"]
)
def test_a_gap_or_a_twin_is_refused(project: Path, run: Run, name: str) -> None:
    (project / MIGRATIONS / name).write_text(NOTES)
    number = f"{SCHEMA_VERSION + 1:03}"
    assert refusal(project, run) == (
        f"{MIGRATIONS}: {name} should be migration {number}, named {number}_verb_noun.sql:"
        " numbers go from 001 without gaps or repeats\n"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{NOTES}begin;\n", f"{NEXT}, line 3, holds `begin`; delete it"),
        (f"{NOTES}COMMIT;\n", f"{NEXT}, line 3, holds `commit`; delete it"),
        (f"{NOTES}pragma user_version = 9;\n", f"{NEXT}, line 3, holds `pragma`; delete it"),
        (f"{NOTES}select 1; select 2;\n", f"{NEXT}, line 3, holds more after a statement's end"),
        (f"{NOTES}select 1\n", f"{NEXT}, line 3, begins a statement that no semicolon ends"),
        (f"{NOTES}create table notes (x);\n", f"{NEXT}:3: table notes already exists"),
        ("create table notes (words text);\n", f"{NEXT}:1: open it with a comment"),
    ],
)
def test_a_migration_that_could_not_be_applied_is_refused(
    project: Path, run: Run, text: str, why: str
) -> None:
    (project / MIGRATIONS / NEXT).write_text(text)
    assert why in refusal(project, run)


def test_a_landed_migration_gets_no_new_checksum(project: Path, run: Run) -> None:
    edited = project / MIGRATIONS / "001_create_tables.sql"
    edited.write_text(edited.read_text() + "create table notes (words text);\n")
    message = refusal(project, run)
    assert f"{MIGRATIONS}/001_create_tables.sql: its text has changed" in message


@pytest.mark.campaign
def test_a_column_that_nobody_describes_is_refused_before_its_migration_counts_as_landed(
    project: Path, run: Run
) -> None:
    (project / MIGRATIONS / NEXT).write_text(NOTES)
    assert refusal(project, run) == f"{COLUMNS}: notes is not described\n"
    (project / MIGRATIONS / NEXT).write_text(NOTES.replace("notes", "sayings"))
    assert refusal(project, run) == f"{COLUMNS}: sayings is not described\n"


def test_all_that_is_wrong_is_said_at_once(project: Path, run: Run) -> None:
    (project / MIGRATIONS / NEXT).write_text(NOTES)
    query = project / QUERIES / "workflows.sql"
    query.write_text(query.read_text().replace("from workflows", "from workflow"))
    message = refusal(project, run)
    assert f"{COLUMNS}: notes is not described\n" in message
    assert "load_workflow: SQLite does not accept it: no such table: workflow\n" in message
