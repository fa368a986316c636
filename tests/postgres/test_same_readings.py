"""A reader of PostgreSQL answers as one of SQLite does, over the same rows."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from benchmarks.big_file import build

import postgres_server as servers
from durable_workflow_sqlite import open_reader
from durable_workflow_sqlite.reading.findings import Level
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.selection import InputFilter, Selection
from durable_workflow_sqlite.store import picking
from seeded_database import NOON, seeded_database
from tests import postgres_server
from tests.postgres.test_same_answers import make_valid
from tests.store.test_reader import FILTERS, ROW_FILTERS, VALUES, ids_by_page

NOW = datetime.now(UTC)

Both = tuple[Reader, Reader]


@contextmanager
def on_both(connection: sqlite3.Connection, file: Path) -> Generator[Both]:
    """A reader of a file, and one of a database with its rows."""
    server = postgres_server.url().removesuffix("postgres")
    import psycopg

    from durable_workflow_sqlite.postgres.migrations import migrate
    from tests.postgres.copied import copy_rows

    with servers.new_database(server, f"same_{uuid.uuid4().hex}") as url:
        migrate(url, schema="durable_workflow")
        with psycopg.connect(url, autocommit=True) as copy:
            copy_rows(connection, copy, "durable_workflow")
            copy.execute("analyze")
        with open_reader(file) as there, open_reader(url) as here:
            yield there, here


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Generator[Both]:
    file = tmp_path_factory.mktemp("history") / "history.db"
    build(file, 1000, 5)
    with closing(sqlite3.connect(file)) as connection, on_both(connection, file) as both:
        yield both


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Generator[Both]:
    """Rows of every kind. No worker lives, in either of them."""
    folder = tmp_path_factory.mktemp("seeded")
    with ExitStack() as stack:
        connection = stack.enter_context(seeded_database(folder))
        make_valid(connection)
        connection.execute("delete from workflow_moves")  # doctor would look no further
        apart = folder / "apart"
        apart.mkdir()
        with closing(sqlite3.connect(apart / "workflows.db")) as copy:
            connection.backup(copy)
            yield stack.enter_context(on_both(copy, apart / "workflows.db"))


@pytest.mark.parametrize(
    "few", [pytest.param(0, marks=pytest.mark.campaign), 20_000], ids=["by walking", "by id"]
)
def test_the_pages_have_the_same_executions(
    history: Both, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "_FEW", few)
    there, here = history
    for filters in FILTERS + ROW_FILTERS:
        selection = Selection(**filters)
        wanted = list(ids_by_page(there, selection))
        assert list(ids_by_page(here, selection)) == wanted, filters
        assert list(itertools.chain(*here.execution_ids(selection))) == wanted, filters


SELECTIONS: list[dict[str, Any]] = [
    {"in_trouble": True},
    {"is_blocked": True},
    {"is_not_undone": True},
    {"is_paused": True},
    {"parent": "parent"},
    {"parent": "asleep"},
    {"root": "asleep"},
    {"queues": ("mail",)},
    {"tags": {"customer": "7"}},
    {"tags": {"customer": "8"}},
    {"error": "it BROKE"},
    {"error": "edited"},
    {"error": ""},
    {"step": "rest"},
    {"step": "pay"},
    {"queues": ("mail", "other")},
    {"version": 1, "workflow_types": ("other",)},
    {"workflow_types": ("other", "order")},
    {"id_prefix": "RUN"},
    {"statuses": ["RUNNING", "COMPENSATING"], "error": "E"},
    {"created_before": NOON + timedelta(microseconds=1)},
    {"created_after": NOON + timedelta(microseconds=1)},
]


@pytest.mark.parametrize("filters", SELECTIONS, ids=str)
def test_the_same_executions_are_selected(seeded: Both, filters: dict[str, Any]) -> None:
    there, here = (list(_all(reader, Selection(**filters))) for reader in seeded)
    assert here == there


def _all(reader: Reader, selection: Selection) -> Iterator[str]:
    after = None
    while True:
        page = reader.page(selection, after=after, limit=3)
        yield from (row.id for row in page.rows)
        after = page.next
        if after is None:
            return


@pytest.mark.campaign
@pytest.mark.parametrize(("text", "value"), VALUES, ids=str)
def test_the_same_values_are_found_in_inputs(
    tmp_path: Path, text: str, value: object, empty: Path
) -> None:
    file = Path(shutil.copy(empty, tmp_path / "inputs.db"))
    inputs: list[object] = [
        [value],
        ["x", value],
        [{"a": value}],
        ["x", {"a": {"b c": value}}],
        [{"a": [value]}],
        {"a": value},
        ["other"],
    ]
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany(
            "update workflow_executions set input_data = ? where rowid = ?",
            [(json.dumps(one), number) for number, one in enumerate(inputs, 1)],
        )
        connection.commit()
        with on_both(connection, file) as both:
            for filters in ([f"1={text}"], [f"2={text}"], [f"a={text}"], [f"a.b c={text}", "1=x"]):
                selection = Selection(inputs=tuple(map(InputFilter.from_text, filters)))
                there, here = (list(_all(reader, selection)) for reader in both)
                assert here == there, filters


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("inputs") / "inputs.db"
    build(file, 9, 1)
    return file


QUESTIONS: dict[str, Callable[[Reader], Any]] = {
    "counts": lambda reader: reader.counts(),
    "overview": lambda reader: reader.overview(NOW, limit=100),
    "paused": lambda reader: reader.paused(limit=100),
    "page": lambda reader: reader.page(limit=100),
    "types": lambda reader: reader.workflow_types(),
    "workers": lambda reader: reader.workers(),
    "schedules": lambda reader: reader.schedules(),
    "queues": lambda reader: reader.queues(NOW),
    "slots of a queue": lambda reader: reader.held_slots("QUEUE", "mail"),
    "slots of steps": lambda reader: reader.held_slots("STEP", "openai"),
    "acts": lambda reader: reader.acts(),
    "acts on queues": lambda reader: reader.acts(["QUEUE"], "mail"),
    "problems": lambda reader: reader.problems(),
    "problems since": lambda reader: reader.problems(NOON, limit=3),
    "throughput": lambda reader: reader.throughput(NOON + timedelta(hours=2), hours=4),
    "queue waits": lambda reader: reader.queue_waits(),
    "alarms": lambda reader: reader.alarms(NOW),
    "prunable": lambda reader: reader.prunable(NOW, ["COMPLETED", "FAILED"]),
    "in doubt": lambda reader: sorted(reader.in_doubt_among(reader.page(limit=100).rows)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_gets_the_same_answer(seeded: Both, question: str) -> None:
    there, here = (_plain(QUESTIONS[question](reader)) for reader in seeded)
    assert here == there


def test_all_of_each_execution_is_the_same(seeded: Both) -> None:
    ids = list(_all(seeded[0], Selection()))
    assert len(ids) > 20
    for one in ids:
        there, here = (_plain(reader.execution(one)) for reader in seeded)
        for after in (None, 0, 1):
            parts = [reader.stream(one, after=after, limit=2) for reader in seeded]
            assert parts[0] == parts[1]
        assert here == there, one
    assert seeded[1].execution("nobody") is None


OF_ITS_OWN = {"disk", "lock", "schema", "rows"}
"""What each database checks by itself. A row of no workflow is none that PostgreSQL keeps."""


def test_what_a_check_of_the_content_finds_is_the_same(seeded: Both) -> None:
    there, here = ([*reader.check_up(NOW)] for reader in seeded)
    names = {one.check for one in here} & {one.check for one in there} - OF_ITS_OWN
    assert {"edited", "blocked", "trouble", "stranded", "history", "signals"} <= names
    for name in names:
        assert _sorted(here, name) == _sorted(there, name)
    assert {one.check for one in here if one.level is Level.ERROR} - names <= {"rows"}


def _sorted(findings: list[Any], check: str) -> list[tuple[str, str]]:
    """How bad it is, and the message without its examples, which are some of several."""
    return sorted(
        (one.level, one.message.partition(":")[0].rpartition("; ")[2])
        for one in findings
        if one.check == check
    )


_ANY = {"queued_seconds", "running_seconds", "examples", "held_step"}
"""What depends on the time of the question; some of many; one of two that are equal."""


def _plain(answer: Any) -> Any:
    """As JSON has it, lists in any order."""
    return _in_order(json.loads(msgspec.json.encode(answer)))


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_order(one) for key, one in value.items() if key not in _ANY}
    if isinstance(value, list):
        return sorted((_in_order(one) for one in value), key=json.dumps)
    return value
