"""tools/generate_queries.py: the types it finds, and what it refuses, on small folders."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from generate_queries import QueriesError, generate

TABLES = """\
create table notes (
    note_id    integer primary key,
    words      text    not null,
    author     text,
    weight     real    not null,
    picture    blob,
    created_at text    not null,
    constraint created_at_is_a_time check (created_at glob '????-*')
) strict;

create table replies (
    reply_id integer primary key,
    note_id  integer not null references notes (note_id),
    weight   real
) strict;

create index idx_reply_note on replies (note_id);
"""

VIEW = """\
-- heavy_notes: the notes that weigh much.
--
-- note_id  integer    which note
-- author   text null  who said it
-- times    integer    how often it weighs more

drop view if exists heavy_notes;

create view heavy_notes as
select
    note_id,
    author,
    cast(weight / 10 as integer) as times
from notes
where weight > 10;
"""

PARAGRAPH = "-- A note is something that somebody said.\n\n"

Generate = Callable[..., str]


@pytest.fixture
def generated(tmp_path: Path) -> Generate:
    """Generate from query files given as notes="text of notes.sql"; each gets its paragraph."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_create_tables.sql").write_text(TABLES)
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "heavy_notes.sql").write_text(VIEW)
    (tmp_path / "queries").mkdir()

    def generated(**files: str) -> str:
        for table, text in files.items():
            (tmp_path / "queries" / f"{table}.sql").write_text(PARAGRAPH + text)
        return generate(tmp_path / "queries", tmp_path / "migrations")

    return generated


@pytest.fixture
def module(generated: Generate) -> Iterator[Callable[..., Any]]:
    """As `generated`, and gives the module that the text makes."""
    name = "generated_queries"

    def made(**files: str) -> Any:
        made = sys.modules[name] = types.ModuleType(name)
        exec(generated(**files), made.__dict__)
        return made

    yield made
    sys.modules.pop(name, None)


def refusal(generated: Generate, **files: str) -> str:
    """What the generator says of files that it refuses."""
    with pytest.raises(QueriesError) as caught:
        generated(**files)
    return str(caught.value)


# Types


def test_a_row_of_a_table_has_the_table_s_types(module: Callable[..., Any]) -> None:
    made = module(
        notes="-- name: load_notes\n"
        "-- Every note.\n"
        "select note_id, words, author, weight, picture, created_at from notes;\n"
    )
    assert get_type_hints(made.NoteRow) == {
        "note_id": int,
        "words": str,
        "author": str | None,
        "weight": float,
        "picture": bytes | None,
        "created_at": str,
    }
    assert made.NoteRow.__doc__ == "A row of notes."
    assert {"load_notes": made.NoteRow} == made.ROW_CLASSES
    assert get_type_hints(made.Queries.load_notes)["return"] == list[made.NoteRow]


def test_a_row_of_a_table_may_lack_what_may_be_null(module: Callable[..., Any]) -> None:
    """So that a column which a migration adds renames no class."""
    made = module(
        notes="-- name: load_notes\n"
        "-- Every note.\n"
        "select note_id, words, weight, picture, created_at from notes;\n"
    )
    assert {"load_notes": made.NoteRow} == made.ROW_CLASSES
    assert "author" not in get_type_hints(made.NoteRow)


def test_each_operation_has_its_result(module: Callable[..., Any]) -> None:
    made = module(
        notes="-- name: load_words^\n"
        "-- What a note says.\n"
        "select note_id, words from notes where note_id = :note_id;\n"
        "\n"
        "-- name: add_note$\n"
        "-- Adds a note and gives its id.\n"
        "insert into notes (words, weight, created_at)\n"
        "values (:words, :weight, :created_at)\n"
        "returning note_id;\n"
        "\n"
        "-- name: delete_note!\n"
        "-- Deletes a note.\n"
        "delete from notes where note_id = :note_id;\n"
    )
    returned = {
        name: get_type_hints(getattr(made.Queries, name))["return"]
        for name in ("load_words", "add_note", "delete_note")
    }
    assert returned == {
        "load_words": made.LoadWordsRow | None,
        "add_note": int | None,
        "delete_note": int,
    }
    assert get_type_hints(made.LoadWordsRow) == {"note_id": int, "words": str}
    assert {"load_words": made.LoadWordsRow} == made.ROW_CLASSES


def test_a_parameter_has_the_type_of_its_column_and_is_named_in_the_call(
    module: Callable[..., Any],
) -> None:
    made = module(
        notes="-- name: add_note!\n"
        "-- Adds a note.\n"
        "insert into notes (words, author, picture, weight, created_at)\n"
        "values (:words, :author, :picture, :weight, :created_at);\n"
    )
    method = made.Queries.add_note
    assert get_type_hints(method) == {
        "connection": object,
        "words": str,
        "author": str | None,
        "picture": bytes | None,
        "weight": float,
        "created_at": str,
        "return": int,
    }
    kinds = {name: one.kind for name, one in inspect.signature(method).parameters.items()}
    assert [name for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY] == [
        "self",
        "connection",
    ]


def test_hints_give_the_types_that_the_schema_does_not_tell(module: Callable[..., Any]) -> None:
    made = module(
        notes="-- name: weigh\n"
        "-- Notes by weight.\n"
        "-- :least real\n"
        "-- :most real null\n"
        "-- =pounds real\n"
        "-- =reply_id integer null\n"
        "select notes.words, notes.weight * 2 as pounds, replies.reply_id\n"
        "from notes\n"
        "left join replies on notes.note_id = replies.note_id\n"
        "where notes.weight > :least and notes.weight < coalesce(:most, 9e9);\n"
    )
    hints = get_type_hints(made.Queries.weigh)
    assert (hints["least"], hints["most"]) == (float, float | None)
    assert get_type_hints(made.WeighRow) == {
        "words": str,
        "pounds": float,
        "reply_id": int | None,
    }


def test_a_column_of_a_view_has_the_type_that_its_file_says(module: Callable[..., Any]) -> None:
    made = module(
        notes="-- name: load_heavy\n"
        "-- The heavy ones.\n"
        "select times, note_id, author from heavy_notes where times > 2;\n"
    )
    hints = get_type_hints(made.LoadHeavyRow)
    assert hints == {"times": int, "note_id": int, "author": str | None}


def test_queries_with_the_same_columns_share_a_row_class(module: Callable[..., Any]) -> None:
    made = module(
        notes="-- name: load_light\n"
        "-- The light ones.\n"
        "select note_id, words from notes where weight < 1;\n"
        "\n"
        "-- name: load_heavy\n"
        "-- The heavy ones.\n"
        "select note_id, words from notes where weight > 9;\n"
    )
    assert {
        "load_light": made.LoadLightRow,
        "load_heavy": made.LoadLightRow,
    } == made.ROW_CLASSES


def test_the_purpose_is_the_docstring_as_it_is_written(module: Callable[..., Any]) -> None:
    made = module(
        notes="-- name: delete_notes!\n"
        '-- Deletes "all", \\notes too.\n'
        "-- Nothing is asked.\n"
        "delete from notes where true;\n"
    )
    docstring = made.Queries.delete_notes.__doc__
    assert [line.strip() for line in docstring.strip().splitlines()] == [
        'Deletes "all", \\notes too.',
        "Nothing is asked.",
    ]


# Hints


@pytest.mark.parametrize(
    ("file", "what", "sql", "hint", "why"),
    [
        ("notes", "old!", "delete from notes where created_at < :before", ":before", "schema"),
        ("heaps", "light!", "delete from notes where weight < :weight", ":weight", "type"),
        ("notes", "count$", "select count(*) as total from notes", "=total", "text, integer, real"),
    ],
)
def test_what_the_schema_does_not_tell_needs_a_hint(
    generated: Generate, file: str, what: str, sql: str, hint: str, why: str
) -> None:
    """A parameter without a column, one whose columns differ in type, an expression."""
    message = refusal(generated, **{file: f"-- name: {what}\n-- What it does.\n{sql};\n"})
    assert f"{file}.sql:3: {what[:-1]}:" in message
    assert why in message
    assert message.endswith(f"\n    -- {hint} TYPE")


JOINED = """\
select notes.note_id, notes.words, replies.reply_id
from notes
left join replies on notes.note_id = replies.note_id"""


@pytest.mark.parametrize(
    ("statement", "why", "lines"),
    [
        (JOINED, "an outer join", ["=reply_id integer"]),
        (
            f"{JOINED.replace('replies on', '(select * from replies) as replies on')}",
            "an outer join",
            ["=note_id integer", "=words text", "=reply_id integer"],
        ),
        ("select words from notes union select author from notes", "`union`", ["=words text"]),
        ("select max(weight) as most, words from notes", "an aggregate", ["=most TYPE"]),
        (
            "select note_id, (select reply_id from replies limit 1) as reply from notes",
            "a scalar subquery",
            ["=note_id integer", "=reply integer"],
        ),
        (
            f"{JOINED} where (select 1) union {JOINED}",
            "`union`",
            ["=note_id integer", "=words text", "=reply_id integer"],
        ),
    ],
)
def test_where_not_null_is_unsure_each_column_needs_a_hint(
    generated: Generate, statement: str, why: str, lines: list[str]
) -> None:
    message = refusal(generated, notes=f"-- name: look\n-- A look.\n{statement};\n")
    assert f"notes.sql:3: look: {why}" in message
    for line in lines:
        assert f"\n    -- {line}" in message


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        ("-- :words text", "the hint `-- :words` is for no parameter"),
        ("-- =picture blob", "the hint `-- =picture` is for no column"),
        ("-- :note_id integer", "the schema tells already what `-- :note_id integer` says"),
        ("-- =author text null", "the schema tells already what `-- =author text null` says"),
    ],
)
def test_a_hint_that_tells_nothing_is_refused(generated: Generate, hint: str, why: str) -> None:
    message = refusal(
        generated,
        notes=f"-- name: load_author$\n-- Who said it.\n{hint}\n"
        "select author from notes where note_id = :note_id;\n",
    )
    assert f"notes.sql:3: load_author: {why}" in message
    assert message.endswith("delete it")


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        ("-- :least float", "is no hint"),
        ("-- :least", "is no hint"),
        ("-- :least real not null", "is no hint"),
        ("-- :least real\n-- :least real null", "a second hint for :least"),
    ],
)
def test_a_hint_that_cannot_be_read_is_refused(generated: Generate, hint: str, why: str) -> None:
    message = refusal(
        generated,
        notes=f"-- name: delete_light!\n-- Deletes what is light.\n{hint}\n"
        "delete from notes where weight < :least;\n",
    )
    line = 4 + hint.count("\n") + 1
    assert f"notes.sql:{line}: delete_light:" in message
    assert why in message


LEFT = "select notes.words, replies.reply_id from notes left join replies using (note_id)"


@pytest.mark.parametrize(
    ("statement", "hints", "why"),
    [
        (
            "select author from notes",
            ["=author text"],
            "the hint of author: notes.author may be null; write `text null`, or the condition"
            " `author is not null`",
        ),
        ("select author from heavy_notes", ["=author text"], "heavy_notes.author may be null"),
        ("select words from notes", ["=words integer"], "it is not integer: notes.words is text"),
        ("select words from notes", ["=words text null"], "it is never null, as notes.words is"),
        (LEFT, ["=reply_id integer null", "=words text null"], "it is never null, as notes.words"),
        (
            LEFT,
            ["=reply_id integer"],
            "the hint of reply_id: replies is left joined, and all of it is null where no row fits",
        ),
        (
            "delete from notes where words = :words returning note_id",
            [":words blob"],
            "the hint of :words says blob, and the column is text",
        ),
    ],
)
def test_a_hint_that_the_schema_contradicts_is_refused(
    generated: Generate, statement: str, hints: list[str], why: str
) -> None:
    lines = "".join(f"-- {hint}\n" for hint in hints)
    message = refusal(generated, notes=f"-- name: look\n-- A look.\n{lines}{statement};\n")
    assert f"notes.sql:{4 + len(hints)}: look: " in message
    assert why in message


@pytest.mark.parametrize(
    ("statement", "hints"),
    [
        ("select author from notes where author is not null", ["=author text"]),
        ("select author from notes where author > 'a'", ["=author text"]),
        (LEFT, ["=reply_id integer null"]),
        (f"{LEFT} where replies.reply_id is not null", ["=reply_id integer"]),
    ],
)
def test_a_hint_that_a_condition_makes_true_is_taken(
    generated: Generate, statement: str, hints: list[str]
) -> None:
    lines = "".join(f"-- {hint}\n" for hint in hints)
    generated(notes=f"-- name: look\n-- A look.\n{lines}{statement};\n")


@pytest.mark.parametrize(
    ("right", "wrong", "line", "why"),
    [
        ("author   text null ", "author   text ", 4, "author: notes.author may be null; write"),
        (
            "author   text null ",
            "author   blob ",
            4,
            "author: it is not blob: notes.author",
        ),
        ("note_id  integer ", "note_id  integer null ", 3, "note_id: it is never null"),
        (
            "-- times    integer    how often it weighs more\n",
            "",
            1,
            "say what times is",
        ),
        ("-- times ", "-- time  ", 5, "the view has no column time; delete the line"),
        ("-- times    integer  ", "-- times    number   ", 5, "write a column as `-- NAME  TYPE"),
        ("-- heavy_notes:", "-- Heavy notes:", 1, "open it with `-- heavy_notes: what it is of`"),
        ("drop view if exists heavy_notes;\n", "", None, "should hold two statements"),
    ],
)
def test_a_view_whose_file_is_wrong_is_refused(
    tmp_path: Path, generated: Generate, right: str, wrong: str, line: int | None, why: str
) -> None:
    (tmp_path / "views" / "heavy_notes.sql").write_text(VIEW.replace(right, wrong, 1))
    message = refusal(generated)
    assert why in message
    assert line is None or f"heavy_notes.sql:{line}: " in message


# Parameters


def test_parameters_are_those_of_the_statement_and_are_not_listed(generated: Generate) -> None:
    message = refusal(
        generated,
        notes="-- name: delete_note(note_id)!\n"
        "-- Deletes a note.\n"
        "delete from notes where note_id = :note_id;\n",
    )
    assert "notes.sql:3: delete_note: `(note_id)!` is not used here" in message
    assert "no list of parameters" in message


def test_a_parameter_that_is_not_named_is_refused(generated: Generate) -> None:
    for sign in ("?", "@note_id", "$note_id"):
        message = refusal(
            generated,
            notes="-- name: delete_note!\n"
            "-- Deletes a note.\n"
            f"delete from notes where note_id = {sign};\n",
        )
        assert "notes.sql:3: delete_note: write every parameter as :name" in message


# Statements


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("delete from notices where true;", "no such table: notices"),
        ("delete from notes where autor = '';", "no such column: autor"),
        ("delet from notes;", "syntax error"),
    ],
)
def test_a_query_that_does_not_prepare_is_refused_with_file_and_line(
    generated: Generate, statement: str, why: str
) -> None:
    message = refusal(
        generated,
        notes="-- name: delete_notes!\n-- Deletes all.\ndelete from notes where true;\n\n"
        f"-- name: delete_again!\n-- Deletes more.\n{statement}\n",
    )
    assert "notes.sql:7: delete_again: SQLite does not accept it" in message
    assert why in message


@pytest.mark.parametrize(
    ("operation", "statement", "why"),
    [
        ("!", "select words from notes;", "it gives rows"),
        ("", "delete from notes where true;", "it gives no rows, so its name ends with !"),
        ("$", "select note_id, words from notes;", "it gives more than one column"),
        ("!", "create table more (x);", "counts no rows"),
        ("<!", "insert into notes (words) values ('');", "`<!` is not used here"),
        ("", "select words, author as words from notes;", "two columns"),
        ("", "select words as class from notes;", "`class` cannot be a field's name"),
        ("!", "delete from notes", "does not end with a semicolon"),
        ("!", "delete from notes where true; -- all;", "a comment inside a statement takes a line"),
        (
            "!",
            "delete from notes where true;\ndelete from replies where true;",
            "this is a second one",
        ),
        (
            "!",
            "delete from notes where true;\n-- What comes next.",
            "this comment follows the statement",
        ),
    ],
)
def test_a_query_that_would_be_misread_is_refused(
    generated: Generate, operation: str, statement: str, why: str
) -> None:
    message = refusal(generated, notes=f"-- name: do{operation}\n-- Does it.\n{statement}\n")
    assert "notes.sql:" in message
    assert why in message


@pytest.mark.parametrize(
    ("statement", "line", "why"),
    [
        (
            "insert or replace into notes (note_id) values (1);",
            5,
            "`insert or` deletes rows and what refers to them",
        ),
        ("insert\nor ignore into notes (note_id) values (1);", 5, "`insert or` deletes rows"),
        ("REPLACE INTO notes (note_id) values (1);", 5, "`replace into` deletes rows"),
        (
            "update or ignore notes\nset note_id = 1\nwhere note_id = 2;",
            5,
            "`update or` deletes rows",
        ),
        (
            "delete from notes\nwhere created_at < datetime('now', '-1 day');",
            6,
            "`datetime` asks SQLite's own clock",
        ),
        (
            "delete from notes\nwhere\n    created_at < current_timestamp;",
            7,
            "`current_timestamp` asks SQLite's own clock here; take the time as a parameter",
        ),
        ("delete from notes where created_at < date();", 5, "`date` asks SQLite's own clock"),
        (
            "delete from notes where created_at < strftime('%s');",
            5,
            "`strftime` asks SQLite's own clock",
        ),
        (
            "delete from notes where weight < unixepoch('subsec');",
            5,
            "`unixepoch` asks SQLite's own clock",
        ),
        (
            'delete from notes\n-- Since yesterday.\nwhere weight < julianday("Now") - 1;',
            7,
            "`julianday` asks SQLite's own clock",
        ),
        ("delete from notes;", 5, "`delete` without `where` is of every row; write `where true`"),
        (
            "update notes\nset weight = (select max(weight) from replies where reply_id = 1);",
            5,
            "`update` without `where` is of every row",
        ),
        (
            "with light as (select note_id from notes where weight < 1)\n"
            "update notes set author = null from light;",
            6,
            "`update` without `where` is of every row",
        ),
    ],
)
def test_a_query_that_harms_or_asks_the_time_is_refused_with_file_query_and_line(
    generated: Generate, statement: str, line: int, why: str
) -> None:
    message = refusal(generated, notes=f"-- name: do!\n-- Does it.\n{statement}\n")
    assert f"notes.sql:{line}: do: {why}" in message


@pytest.mark.parametrize(
    "statement",
    [
        "insert into notes (note_id, words, weight, created_at)\nvalues (1, 'now', 1, '')\n"
        "on conflict (note_id) do update set words = replace(excluded.words, 'now', 'then');",
        "delete from notes where julianday(created_at) < julianday(:before, '-1 day');",
        "delete from notes where strftime('%Y', created_at) < date(:before);",
        "delete from notes where julianday(:before, 'subsec') > weight;",
        "update notes set weight = 0 where true;",
    ],
)
def test_a_query_that_only_looks_like_it_is_taken(generated: Generate, statement: str) -> None:
    hint = "-- :before text\n" if ":before" in statement else ""
    generated(notes=f"-- name: do!\n-- Does it.\n{hint}{statement}\n")


def test_a_query_without_a_purpose_is_refused(generated: Generate) -> None:
    message = refusal(generated, notes="-- name: delete_notes!\ndelete from notes where true;\n")
    assert "notes.sql:3: delete_notes: say in a comment" in message


def test_a_file_without_a_paragraph_is_refused(tmp_path: Path, generated: Generate) -> None:
    (tmp_path / "queries" / "replies.sql").write_text(
        "-- name: delete_replies!\n-- Deletes all.\ndelete from replies where true;\n"
    )
    assert "replies.sql:1: a file of queries opens with a paragraph" in refusal(generated)


def test_a_name_that_is_taken_is_refused(generated: Generate) -> None:
    message = refusal(
        generated,
        notes="-- name: delete_all!\n-- Deletes all notes.\ndelete from notes where true;\n",
        replies="-- name: delete_all!\n-- All replies.\ndelete from replies where true;\n",
    )
    assert "replies.sql:3: delete_all:" in message
    assert "notes.sql:3 has a query of this name already" in message


def test_everything_that_is_wrong_is_said_at_once(generated: Generate) -> None:
    message = refusal(
        generated,
        notes="-- name: delete_notices!\n-- Deletes all.\ndelete from notices where true;\n",
        replies="-- name: delete_replies!\ndelete from replies where true;\n",
    )
    assert "notes.sql:3" in message
    assert "replies.sql:3" in message
