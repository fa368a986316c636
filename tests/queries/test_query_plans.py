"""tools/query_plans.py: what it finds in a plan, and what it refuses, on small folders."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import query_plans
from query_plans import (
    MIGRATIONS,
    OUTPUT,
    QUERIES,
    ROOT,
    PlansError,
    Statistic,
    plans,
    statistics_of_a_long_life,
)

TABLES = """\
create table workflows (
    workflow_id text primary key,
    version     integer
);

create table notes (
    note_id integer primary key,
    author  text,
    words   text,
    mood    text
);

create index idx_note_author on notes (author);

create index idx_note_words on notes (words);
"""

VIEW = """\
-- sad_notes: the notes that are sad.
--
-- note_id  integer  which note

drop view if exists sad_notes;

create view sad_notes as
select note.note_id
from notes as note
where note.mood = 'sad';
"""

PARAGRAPH = "-- A note is something that somebody said.\n\n"

Planned = Callable[..., str]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """The plans of one query, load_notes, of notes."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_create_tables.sql").write_text(TABLES)
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "sad_notes.sql").write_text(VIEW)
    (tmp_path / "queries").mkdir()

    def planned(statement: str, *allowances: str, statistics: tuple[Statistic, ...] = ()) -> str:
        lines = "".join(f"-- {allowance}\n" for allowance in allowances)
        (tmp_path / "queries" / "notes.sql").write_text(
            f"{PARAGRAPH}-- name: load_notes\n-- Some notes.\n{lines}{statement};\n"
        )
        return plans(tmp_path / "queries", tmp_path / "migrations", statistics)

    return planned


def refusal(planned: Planned, *arguments: str, **more: object) -> str:
    """What is said of a query that is refused."""
    with pytest.raises(PlansError) as caught:
        planned(*arguments, **more)
    return str(caught.value)


def test_a_plan_is_written_with_its_query(planned: Planned) -> None:
    text = planned("select words from notes where author = :author")
    assert text.startswith(f"How SQLite {sqlite3.sqlite_version} ")
    assert (
        "\n# notes.sql\n\nload_notes\n"
        "    SEARCH notes USING INDEX idx_note_author (author=?)\n" in text
    )


def test_each_index_names_its_queries(planned: Planned) -> None:
    text = planned("select note_id from notes where author = 'kim'")
    assert "\nidx_note_author\n    load_notes\n" in text
    assert "\nidx_note_words\n    none\n" in text


def test_a_scan_of_a_table_that_grows_is_refused(planned: Planned) -> None:
    message = refusal(planned, "select note_id from notes where length(words) > 3")
    assert "notes.sql:3: load_notes: SQLite scans notes, which grows" in message
    assert "`-- @scan notes: WHY`" in message


def test_a_scan_of_an_index_is_a_scan(planned: Planned) -> None:
    assert "scans notes" in refusal(planned, "select author from notes order by author")


def test_a_scan_further_down_is_refused(planned: Planned) -> None:
    message = refusal(
        planned,
        "select version from workflows\n"
        "where workflow_id in (select author from notes where words like '%no%')",
    )
    assert "scans notes" in message


def test_an_index_that_is_made_for_one_query_is_a_scan(planned: Planned) -> None:
    message = refusal(
        planned,
        "select notes.words from workflows cross join notes on notes.mood = workflows.version",
    )
    assert "scans notes" in message


def test_a_sort_of_rows_of_a_table_that_grows_is_refused(planned: Planned) -> None:
    message = refusal(planned, "select words from notes where author = 'kim' order by words")
    assert "SQLite sorts rows of a table that grows" in message
    assert "`-- @sort: WHY`" in message


def test_an_order_that_an_index_has_is_no_sort(planned: Planned) -> None:
    planned("select note_id from notes where author = 'kim' order by note_id")


def test_what_is_allowed_is_not_refused(planned: Planned) -> None:
    planned(
        "select words from notes order by length(words)",
        "@scan notes: it asks for all of them",
        "@sort: it asks for all of them",
    )


def test_a_scan_of_another_table_is_not_what_is_allowed(planned: Planned) -> None:
    message = refusal(planned, "select words from notes", "@scan replies: they are few")
    assert "scans notes" in message
    assert "no plan needs `-- @scan replies: ...`; delete it" in message


@pytest.mark.parametrize("allowance", ["@scan notes", "@sort"])
def test_an_allowance_that_no_plan_needs_is_refused(planned: Planned, allowance: str) -> None:
    message = refusal(planned, "select words from notes where note_id = 1", f"{allowance}: why not")
    assert f"notes.sql:3: load_notes: no plan needs `-- {allowance}: ...`; delete it" in message


@pytest.mark.parametrize("allowance", ["@scan notes", "@scan: why", "@sort:", "@all: why"])
def test_an_allowance_says_what_and_why(planned: Planned, allowance: str) -> None:
    message = refusal(planned, "select words from notes", allowance)
    assert f"notes.sql:5: load_notes: `-- {allowance}` allows nothing" in message


def test_an_allowance_stands_once(planned: Planned) -> None:
    message = refusal(planned, "select words from notes", "@scan notes: one", "@scan notes: two")
    assert "a second line that allows @scan notes" in message


def test_definitions_may_be_scanned_and_sorted(planned: Planned) -> None:
    planned("select workflow_id from workflows order by version")


def test_json_and_constants_are_no_tables(planned: Planned) -> None:
    planned("select value from json_each('[3, 1]') order by value")
    planned("select 1 as one where exists (select 1 from notes where note_id = 1)")


def test_a_table_is_known_by_its_other_names(planned: Planned) -> None:
    assert "scans notes" in refusal(planned, "select one.words from notes as one")
    planned("select one.version from workflows as one order by one.version")


def test_a_scan_in_a_view_is_refused(planned: Planned) -> None:
    assert "scans notes" in refusal(planned, "select note_id from sad_notes")
    assert "scans notes" in refusal(planned, "select count(*) as total from sad_notes as sad")


def test_what_a_query_makes_itself_is_no_table(planned: Planned) -> None:
    made = "with recursive numbers (n) as (\n{}\nunion all select n + 1 from numbers where n < 9\n)"
    planned(f"{made.format('select 1')}\nselect n from numbers order by n")
    message = refusal(
        planned, f"{made.format('select note_id from notes')}\nselect n from numbers order by n"
    )
    assert "scans notes" in message
    assert "numbers" not in message


def test_a_plan_that_statistics_change_is_written_and_held_to_the_rules(planned: Planned) -> None:
    statement = "select note_id from notes where author = 'kim' and words = 'no'"
    by = {
        index: f"    SEARCH notes USING INDEX {index} ({column}=?)\n"
        for index, column in (("idx_note_author", "author"), ("idx_note_words", "words"))
    }
    texts = [
        planned(
            statement,
            statistics=(("notes", good, "100000 2"), ("notes", bad, "100000 50000")),
        )
        for good, bad in (by, reversed(by))
    ]
    for text, index in zip(texts, by, strict=True):
        assert by[index] in text
    assert sum("\nload_notes, with statistics\n" in text for text in texts) == 1

    statement = "select words from notes where author in (select value from json_each('[1, 2]'))"
    assert "with statistics" not in planned(statement)
    useless = (("notes", "idx_note_author", "100000 90000"),)
    assert "scans notes" in refusal(planned, statement, statistics=useless)


def test_a_query_that_does_not_prepare_is_refused(planned: Planned) -> None:
    message = refusal(planned, "select title from notes")
    assert "load_notes: SQLite does not accept it: no such column: title" in message


# The file that is committed


@pytest.mark.campaign
def test_the_statistics_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_plans, "FINISHED", 200)
    once, again = statistics_of_a_long_life(), statistics_of_a_long_life()
    assert once == again
    assert {table for table, _, _ in once} == {
        "step_checkpoints",
        "workflow_claims",
        "workflow_executions",
        "workflow_signals",
        "workflow_timers",
        "workflow_workers",
        "workflows",
    }


def test_a_check_says_what_differs_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / MIGRATIONS).mkdir(parents=True)
    (tmp_path / MIGRATIONS / "001_create_tables.sql").write_text(f"-- What people said.\n{TABLES}")
    query = tmp_path / QUERIES / "notes.sql"
    query.parent.mkdir()
    query.write_text(
        f"{PARAGRAPH}-- name: load_notes\n-- Some notes.\n-- @sort: they are few\n"
        "select words from notes where author = :author order by words;\n"
    )
    monkeypatch.setattr(query_plans, "ROOT", tmp_path)
    monkeypatch.setattr(query_plans, "statistics_of_a_long_life", list)
    monkeypatch.chdir(ROOT)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["query_plans.py", *arguments])
        code = query_plans.main()
        return code, capsys.readouterr().out

    output = tmp_path / OUTPUT
    assert run()[0] == 0
    current = output.read_text()
    assert run("--check")[0] == 0

    output.write_text(current.replace("load_notes\n", "load_sayings\n", 1))
    code, said = run("--check")
    assert code == 1
    assert f"{OUTPUT}: out of date; run `make plans`" in said
    assert "-load_sayings\n+load_notes" in said
    assert "load_sayings" in output.read_text()

    output.write_text(output.read_text().replace(sqlite3.sqlite_version, "3.99.0", 1))
    code, said = run("--check")
    assert code == 0
    assert "sql/plans.txt is by SQLite 3.99.0" in said

    query.write_text(query.read_text().replace("@sort: they are few", "They are few."))
    code, said = run("--check")
    assert code == 1
    assert "load_notes: SQLite sorts rows" in said
