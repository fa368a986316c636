"""All that a database holds is moved, whatever interrupts that, and goes on where it was."""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import postgres_server
from durable_workflow_sqlite import (
    ClaimLostError,
    Client,
    DurableEngine,
    Queue,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreMovedError,
    open_reader,
    open_store,
)
from durable_workflow_sqlite.moving import move as moving
from durable_workflow_sqlite.moving.database import TABLES, MovableDatabase
from durable_workflow_sqlite.reading.findings import Level
from durable_workflow_sqlite.store.sql import MOVING_DIR, SQL_DIR, load_statements
from durable_workflow_sqlite.stores import open_movable
from tests import postgres_server as server_of_tests
from tests.databases import new_database
from tests.moving import orders

PLACES = ["a file", "PostgreSQL"]
NewPlace = Callable[[], str]


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "journal"
    monkeypatch.setenv(orders.JOURNAL, str(path))
    return path


@pytest.fixture
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[NewPlace]:
    """Gives the path or the URL of one more database, which is not there yet or holds nothing."""
    places: Iterator[str]
    with ExitStack() as made:
        if getattr(request, "param", "a file") == "PostgreSQL":
            server = server_of_tests.url().removesuffix("postgres")
            name = server_of_tests.schema_of(tmp_path)
            places = (
                made.enter_context(postgres_server.new_database(server, f"{name}_{number}"))
                for number in range(99)
            )
        else:
            places = (str(new_database(tmp_path / f"moved {number}.db")) for number in range(99))
        yield lambda: next(places)


@contextmanager
def two(source: str, target: str) -> Generator[tuple[MovableDatabase, MovableDatabase]]:
    with (
        closing(open_movable(source, create=False)) as theirs,
        closing(open_movable(target, create=True)) as ours,
    ):
        yield theirs, ours


def move(source: MovableDatabase, target: MovableDatabase) -> list[moving.Moved]:
    return moving.move(
        source,
        target,
        moved_by="somebody@here",
        now=lambda: datetime.now(UTC),
        on_progress=lambda *_: None,
    )


_filled: list[tuple[bytes, str]] = []
"""A file that was filled once, and the journal of that."""


async def filled(path: Path) -> str:
    journal = Path(os.environ[orders.JOURNAL])
    if not _filled:
        async with open_store(path) as store:
            await orders.begin(store)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma wal_checkpoint(truncate)")
        _filled.append((path.read_bytes(), journal.read_text()))
    file, lines = _filled[0]
    path.write_bytes(file)
    journal.write_text(lines)
    return str(path)


@pytest.mark.parametrize("new_place", PLACES, indirect=True)
async def test_what_was_moved_goes_on_where_it_was_and_can_be_moved_back(
    new_place: NewPlace, tmp_path: Path, journal: Path
) -> None:
    source = await filled(tmp_path / "source.db")
    target = new_place()
    with two(source, target) as (theirs, ours):
        there = move(theirs, ours)
    assert [one.table for one in there] == list(TABLES)
    empty = {one.table for one in there if not one.rows}
    assert empty == {"workflow_spreading", "workflow_worker_queues"}

    back = str(tmp_path / "back.db")
    with two(target, back) as (theirs, ours):
        assert move(theirs, ours) == there
    with open_reader(back) as reader:
        found = reader.check_up(datetime.now(UTC))
        assert [one for one in found if one.level is Level.ERROR] == []

    async with open_store(back) as store:
        assert await orders.end(store) == orders.RESULTS
    calls = Counter(journal.read_text().splitlines())
    assert set(calls.values()) == {1}, "a step that had been recorded has run again"
    assert {f"refund {number}" for number in (1, 4, 9)} == {
        one for one in calls if one.startswith("refund")
    }


STAYS = {"workflow_claims", "workflow_step_slots", "workflow_moves"}


def test_every_column_of_every_table_is_moved(tmp_path: Path) -> None:
    def columns_of(statement: str) -> list[str]:
        """The names between `select` and `from`, or those in the first brackets."""
        (listed,) = re.findall(r"^(?:select|[^(]*\()([^()]*?)(?:\bfrom|\))", statement, re.DOTALL)
        return [one.split()[-1] for one in listed.split(",")]

    with closing(sqlite3.connect(new_database(tmp_path / "new.db"))) as connection:
        tables = connection.execute(
            "select name from sqlite_schema where type = 'table' and name not glob 'sqlite_*'"
        ).fetchall()
        assert {name for (name,) in tables} - STAYS == set(TABLES)
        for table in TABLES:
            info = connection.execute(f"pragma table_info({table})").fetchall()
            expected = [column[1] for column in info]
            if table == "workflow_executions":
                expected.insert(0, "row_number")
            for folder in (MOVING_DIR, SQL_DIR / "postgres" / "moving"):
                statements = load_statements(folder)
                assert columns_of(statements[f"read_{table}"]) == expected
                written = columns_of(statements[f"write_{table}"])
                assert ["row_number" if one == "rowid" else one for one in written] == expected


class Interrupted(Exception):
    pass


class Interrupting:
    """A database of which one call fails, before or after it has done its work."""

    def __init__(self, database: MovableDatabase, calls: list[str], fails_at: int) -> None:
        self._database = database
        self._calls = calls
        self._fails_at = fails_at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._database, name)
        if name not in ("fence", "begin", "write", "finish"):
            return found

        def call(*arguments: Any) -> None:
            for when in ("before", "after"):
                self._calls.append(f"{when} {name}")
                if len(self._calls) == self._fails_at:
                    raise Interrupted
                if when == "before":
                    found(*arguments)

        return call


@pytest.mark.few(1)
@pytest.mark.parametrize("new_place", PLACES, indirect=True)
async def test_the_tables_that_are_not_moved_are_named(new_place: NewPlace) -> None:
    place = new_place()
    with two(place, new_place()) as (theirs, _):
        assert theirs.tables_of_others() == []
        if place.startswith("postgresql:"):
            import psycopg

            with psycopg.connect(place, autocommit=True) as server:
                server.execute("create table durable_workflow.notes (words text)")
                server.execute("create table elsewhere (words text)")
        else:
            with closing(sqlite3.connect(place)) as file:
                file.execute("create table notes (words text)")
                file.execute("create view some_notes as select words from notes")
        assert theirs.tables_of_others() == ["notes"]


@pytest.mark.campaign
@pytest.mark.parametrize("new_place", PLACES, indirect=True)
async def test_a_move_that_is_interrupted_anywhere_goes_on(
    new_place: NewPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "ROWS_AT_ONCE", 40)
    source = await filled(tmp_path / "source.db")
    whole = Path(source).read_bytes()
    target = new_place()
    expected: list[moving.Moved] = []
    fails_at = 0
    while True:
        # Each time all anew: an interruption, and then the same call goes on.
        Path(source).write_bytes(whole)
        fails_at += 1 if target.endswith(".db") else 3  # a server takes its time
        calls: list[str] = []
        try:
            with two(source, target) as (theirs, ours):
                move(
                    Interrupting(theirs, calls, fails_at),  # type: ignore[arg-type]
                    Interrupting(ours, calls, fails_at),  # type: ignore[arg-type]
                )
            break
        except Interrupted:
            pass
        at = calls[-1]
        if any(one == "after fence" for one in calls):
            with pytest.raises(StoreMovedError):
                open_store(source)
        with two(source, target) as (theirs, ours):
            moved = move(theirs, ours)
            if moved:  # else it was finished but for the word of it
                expected = expected or moved
                assert moved == expected, at
            assert move(theirs, ours) == []
        with pytest.raises(StoreMovedError, match="it was moved to"):
            open_store(source)
        async with open_store(target) as store:
            assert (await Client(store).load("order 2")).paused_by is not None
        target = new_place()
    assert {one for one in calls if one.startswith("after")} == {
        "after fence",
        "after begin",
        "after write",
        "after finish",
    }
    assert len(calls) > 2 * len(TABLES)


@pytest.mark.parametrize("new_place", PLACES, indirect=True)
async def test_a_move_is_not_given_up_whose_target_is_at_work_already(
    new_place: NewPlace, tmp_path: Path
) -> None:
    """It was killed between its last two writes: the source does not know that it is finished."""
    source = await filled(tmp_path / "source.db")
    target = new_place()
    calls: list[str] = []
    with two(source, target) as (theirs, ours), pytest.raises(Interrupted):
        # The target is finished, and the source is about to be.
        move(
            Interrupting(theirs, calls, 3),  # type: ignore[arg-type]
            ours,
        )
    assert calls == ["before fence", "after fence", "before finish"]
    with two(source, target) as (theirs, ours):
        assert theirs.moves().out is not None
        with pytest.raises(StoreError, match="would run them twice"):
            moving.give_up(theirs, ours)
    with (
        two(source, str(new_database(tmp_path / "elsewhere.db"))) as (theirs, ours),
        pytest.raises(StoreError, match="and not to"),
    ):
        moving.give_up(theirs, ours)
    with two(source, target) as (theirs, ours):
        assert move(theirs, ours) == []
        out = theirs.moves().out
        assert out is not None
        assert out.is_finished


@pytest.mark.parametrize("new_place", PLACES, indirect=True)
async def test_one_move_at_a_time_goes_into_a_database(new_place: NewPlace, tmp_path: Path) -> None:
    source = await filled(tmp_path / "source.db")
    target = new_place()
    with two(source, target) as (theirs, ours):
        ours.have_it_alone()
        with pytest.raises(StoreBusyError), two(source, target) as (_, second):
            second.have_it_alone()
        assert move(theirs, ours)


@pytest.mark.parametrize("new_place", PLACES, indirect=True)
async def test_nothing_is_opened_that_is_half_moved(new_place: NewPlace, tmp_path: Path) -> None:
    source = await filled(tmp_path / "source.db")
    target = new_place()
    with two(source, target) as (theirs, ours):
        theirs.fence("m", ours.name, "somebody", datetime.now(UTC))
        ours.begin("m", theirs.name, "somebody", datetime.now(UTC))
    with pytest.raises(StoreMovedError, match="it is being moved to"):
        open_store(source)
    with pytest.raises(StoreError, match="is being moved here"):
        open_store(target)
    with two(source, target) as (theirs, ours):
        moving.give_up(theirs, ours)
    async with open_store(source) as store:
        assert await orders.end(store) == orders.RESULTS


async def test_workers_that_are_at_work_stop_and_can_write_nothing(tmp_path: Path) -> None:
    source = await filled(tmp_path / "source.db")
    async with open_store(source) as store:
        client = Client(store)
        async with DurableEngine(store, orders.WORKFLOWS) as engine:
            walking = await engine.start(orders.walk, 1, execution_id="walk")
            gone = engine._until_store_is_gone()
            with two(source, str(tmp_path / "target.db")) as (theirs, ours):
                move(theirs, ours)
                before = theirs.count_rows()
                assert isinstance(await gone, StoreMovedError)
                for act in (
                    lambda: engine.start(orders.walk, 2),
                    lambda: client.enqueue(orders.walk, 3),
                    lambda: client.send_signal("order 5", "approved", "too late"),
                    lambda: client.cancel("order 5"),
                    lambda: client.pause("order 5"),
                    lambda: client.resume("order 2"),
                    lambda: client.pause_all(),
                    lambda: client.resume_queue("slow"),
                    lambda: client.rerun("order 4", new_id="order 4 again"),
                    lambda: client.trigger("nightly"),
                    lambda: client.unschedule("nightly"),
                    lambda: client.change_limits(Queue("slow", concurrency=5)),
                    lambda: store.delete_completed_before(datetime.now(UTC)),
                ):
                    with pytest.raises(StoreMovedError):
                        await act()
                assert theirs.count_rows() == before
            with pytest.raises((ClaimLostError, StoreMovedError)):
                await walking.result()
    async with open_store(tmp_path / "target.db") as store:
        async with DurableEngine(store, orders.WORKFLOWS) as engine:
            assert await engine.result_of("walk") == 1


@pytest.mark.parametrize("new_place", PLACES, indirect=True)
async def test_what_cannot_be_moved_is_refused_before_anything_is_written(
    new_place: NewPlace, tmp_path: Path
) -> None:
    source = await filled(tmp_path / "source.db")
    other = await filled(tmp_path / "other.db")
    target = new_place()
    with two(source, other) as (theirs, ours), pytest.raises(StoreError, match="is not empty"):
        move(theirs, ours)
    with two(source, source) as (theirs, ours), pytest.raises(StoreError, match="to itself"):
        move(theirs, ours)
    with two(source, target) as (theirs, ours):
        move(theirs, ours)
    with two(other, target) as (theirs, ours), pytest.raises(StoreError, match="moved there from"):
        move(theirs, ours)
    with (
        two(source, str(tmp_path / "third.db")) as (theirs, ours),
        pytest.raises(StoreError, match="it was moved to"),
    ):
        move(theirs, ours)
    with two(other, source) as (theirs, ours), pytest.raises(StoreError, match="itself"):
        move(theirs, ours)
    with closing(open_movable(source, create=False)) as theirs:
        with pytest.raises(StoreError, match="would run them twice"):
            moving.give_up(theirs, None)
    with closing(open_movable(other, create=False)) as theirs:
        assert theirs.moves().out is None
        with pytest.raises(StoreError, match="is not being moved"):
            moving.give_up(theirs, None)
    with pytest.raises(StoreError, match="there is no file"):
        open_movable(tmp_path / "missing.db", create=False)


async def test_rows_that_refer_to_nothing_are_named_before_the_fence(tmp_path: Path) -> None:
    source = await filled(tmp_path / "source.db")
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("delete from workflow_executions where workflow_execution_id = 'queued'")
        connection.execute("delete from workflows where workflow_type = 'reminder'")
        connection.commit()
    with two(source, str(tmp_path / "target.db")) as (theirs, ours):
        with pytest.raises(StoreCorruptError, match="refers to a row of workflows"):
            move(theirs, ours)
        assert theirs.moves().out is None


@pytest.mark.parametrize("new_place", PLACES, indirect=True)
async def test_a_row_that_somebody_writes_meanwhile_is_found(
    new_place: NewPlace, tmp_path: Path
) -> None:
    source = await filled(tmp_path / "source.db")
    target = new_place()

    class Meddling(Interrupting):
        def __getattr__(self, name: str) -> Any:
            if name == "rows" and self._calls:
                with closing(sqlite3.connect(source)) as connection:
                    connection.execute(
                        "update step_checkpoints set output_data = '1' where step_name = 'charge'"
                    )
                    connection.commit()
            if name == "begin":
                self._calls.append("begun")
            return getattr(self._database, name)

    with two(source, target) as (theirs, ours):
        with pytest.raises(StoreError, match="of step_checkpoints is not the same in both"):
            move(theirs, Meddling(ours, [], 0))  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        open_store(target)


async def test_times_in_another_form_are_moved(new_place: NewPlace, tmp_path: Path) -> None:
    source = await filled(tmp_path / "source.db")
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("update step_checkpoints set started_at = '2026-01-31T12:00:00+01:00'")
        connection.commit()
    target = new_place()
    with two(source, target) as (theirs, ours):
        move(theirs, ours)
    with closing(sqlite3.connect(target)) as connection:
        (found,) = connection.execute("select distinct started_at from step_checkpoints").fetchall()
    assert found == ("2026-01-31T11:00:00.000000Z",)
