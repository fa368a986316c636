"""What only a reader of PostgreSQL meets: its server, its sessions, its roles."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import postgres_server as servers
from durable_workflow_sqlite import (
    DurableEngine,
    StoreError,
    WorkflowContext,
    blocking,
    open_reader,
    open_store,
    workflow,
)
from durable_workflow_sqlite.reading.findings import Finding, Level
from durable_workflow_sqlite.reading.selection import InputFilter, Selection
from tests import postgres_server
from tests.over_postgres import template

if TYPE_CHECKING:
    pass

ByHand = Callable[[str], list[tuple[Any, ...]]]


@workflow
async def shop(ctx: WorkflowContext, price: int) -> int:
    return await ctx.step("add", lambda: price + 1)


@workflow
async def takes(ctx: WorkflowContext, customer: dict[str, object], note: str | None) -> None:
    await ctx.step("note", lambda: note)


@pytest.fixture
def own() -> Generator[str]:
    """A database of its own, with a schema that has the usual name."""
    server, empty = template(postgres_server.url().removesuffix("postgres"))
    with servers.new_database(server, f"own_{uuid.uuid4().hex}", like=empty) as own:
        yield own


@pytest.fixture
def by_hand(own: str) -> Generator[ByHand]:
    import psycopg

    with closing(psycopg.connect(own, autocommit=True)) as connection:
        connection.execute("set search_path = durable_workflow")

        def ask(statement: str) -> list[tuple[Any, ...]]:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

        yield ask


def problems(url: str) -> dict[str, str]:
    """What doctor finds that needs somebody, without what it says of the server of the tests."""
    with open_reader(url) as reader:
        found = [*reader.check_up(datetime.now(UTC))]
    assert [one for one in found if one.check == "server" and one.level is Level.OK]
    return {
        one.check: one.message
        for one in found
        if one.level.needs_somebody and not is_of_the_tests(one)
    }


def is_of_the_tests(one: Finding) -> bool:
    return one.message.startswith("fsync is off")


def test_nothing_is_wrong_with_a_new_schema(own: str) -> None:
    assert problems(own) == {}


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("drop index idx_wf_tag", "the index idx_wf_tag is missing"),
        (
            "drop trigger trg_wf_signal_wakes on workflow_signals",
            "the trigger trg_wf_signal_wakes is missing",
        ),
        ("drop function wake_for_a_signal cascade", "the function wake_for_a_signal is missing"),
        ("drop view workflow_blocked", "the view workflow_blocked is missing"),
    ],
)
def test_what_is_missing_is_named(own: str, by_hand: ByHand, statement: str, what: str) -> None:
    by_hand(statement)
    assert what in problems(own)["schema"]


def test_a_transaction_that_somebody_leaves_open_is_named(own: str) -> None:
    import psycopg

    with closing(psycopg.connect(own, application_name="a shell")) as shell:
        shell.execute("select count(*) from durable_workflow.workflow_tags")
        with open_reader(own) as reader:
            later = datetime.now(UTC) + timedelta(minutes=1)
            (found,) = [one for one in reader.check_up(later) if one.check == "lock"]
        assert found.level is Level.WARNING
        process = shell.info.backend_pid
        assert f"process {process} (postgres, a shell: idle in transaction, since" in found.message


def test_a_time_that_no_engine_reads_is_refused_and_an_old_one_is_found(
    own: str, by_hand: ByHand
) -> None:
    import psycopg

    with blocking.open_store(own) as store, blocking.DurableEngine(store, [shop]) as engine:
        engine.enqueue(shop, 1, execution_id="one", delay=timedelta(days=1))
    for time in ("infinity", "-infinity", "10000-01-01 00:00+00", "0001-12-31 00:00+00 BC"):
        with pytest.raises(psycopg.errors.CheckViolation, match="available_at_is_a_time"):
            by_hand(f"update workflow_executions set available_at = '{time}'")
    by_hand("alter table workflow_executions drop constraint available_at_is_a_time")
    by_hand("update workflow_executions set available_at = 'infinity'")
    assert "execution 'one' cannot be read: available_at 'infinity'" in problems(own)["rows"]
    with open_reader(own) as reader:
        assert [one.id for one in reader.page().rows] == ["one"]
        details = reader.execution("one")
        assert details is not None and "available_at 'infinity'" in details.problems[0]


async def test_who_lives_is_known_by_the_locks_of_sessions(own: str, by_hand: ByHand) -> None:
    async with open_store(own) as store, DurableEngine(store, [shop]) as engine:
        assert await engine.run(shop, 1) == 2
        with open_reader(own) as reader:
            assert reader.count_living_workers() == 1
            (worker,) = reader.workers().workers
            assert (worker.worker_id, worker.is_alive) == (store.worker_id, True)
            await asyncio.to_thread(by_hand, "delete from workflow_worker_workflows")
            await asyncio.to_thread(by_hand, "delete from workflow_workers")
            (nameless,) = reader.workers().workers
            assert (nameless.worker_id, nameless.is_alive) == (store.worker_id[:12], True)
    with open_reader(own) as reader:
        assert reader.count_living_workers() == 0


def test_a_reader_sees_one_moment_and_writes_nothing(own: str, by_hand: ByHand) -> None:
    from durable_workflow_sqlite.postgres.reader import PostgresReader

    with open_reader(own) as reader:
        assert isinstance(reader, PostgresReader)
        before = reader.changes()
        assert reader.changes() == before
        with reader.reading() as session:
            counted = "select count(*) from durable_workflow.workflows"
            assert session.execute(counted).fetchone() == (0,)
            by_hand("insert into workflows (workflow_id, workflow_type) values ('a@1', 'a')")
            assert session.execute(counted).fetchone() == (0,)
        assert reader.workflow_types() == ["a"]
        assert reader.changes() != before
        with pytest.raises(StoreError, match="it is read-only"), reader.reading() as session:
            session.execute("delete from durable_workflow.workflows")
        assert reader.workflow_types() == ["a"]


def test_a_session_that_the_server_has_ended_is_opened_again(own: str, by_hand: ByHand) -> None:
    with open_reader(own) as reader:
        assert reader.counts() == []
        by_hand(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid != pg_backend_pid()"
        )
        assert reader.counts() == []


def test_an_older_and_a_newer_schema_are_refused(own: str, by_hand: ByHand) -> None:
    by_hand("insert into workflow_migrations (version, name) values (999, 'later')")
    with pytest.raises(StoreError, match="update the library"):
        open_reader(own)
    by_hand("delete from workflow_migrations where version != 1")
    with pytest.raises(StoreError, match="has version 1, and this library reads version"):
        open_reader(own)


ONE = {"id": 7, "name": "kim", "vip": True, "address": {"city": "Bonn"}}


@pytest.mark.few(4)
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("customer.id=7", ["one"]),
        ("customer.name=kim", ["one"]),
        ("customer.name=null", ["two"]),
        ("customer.vip=true", ["one"]),
        ("customer.vip=false", ["two"]),
        ("customer.address.city=Bonn", ["one"]),
        ("2=null", ["two"]),
        ("2=by mail", ["one"]),
        ("2=by", []),
        ("nobody=7", []),
    ],
)
def test_values_in_inputs_are_found_as_on_sqlite(
    own: str, tmp_path: Path, text: str, ids: list[str]
) -> None:
    for url in (own, str(tmp_path / "workflows.db")):
        with blocking.open_store(url) as store, blocking.DurableEngine(store, [takes]) as engine:
            for one, customer, note in (
                ("one", ONE, "by mail"),
                ("two", {"id": "8", "name": None, "vip": False, "nul": "a\\u0000"}, None),
            ):
                engine.enqueue(
                    takes, {"customer": customer}, note, execution_id=one, delay=timedelta(days=1)
                )
        with open_reader(url) as reader:
            found = reader.page(Selection(inputs=(InputFilter.from_text(text),)))
            assert [row.id for row in found.rows] == ids


def test_each_role_needs_no_more_than_the_page_says(own: str, by_hand: ByHand) -> None:
    """The statements of docs/postgresql.md, and what each role can do then."""
    page = (Path(__file__).parents[2] / "docs/postgresql.md").read_text()
    statements = page.partition("<!-- roles -->\n```sql\n")[2].partition("```")[0]
    assert statements.count("grant") >= 4
    names = {name: f"{name}_{uuid.uuid4().hex[:12]}" for name in ("shop_worker", "shop_reader")}
    for name, unique in names.items():
        statements = statements.replace(name, unique)
    by_hand(statements)
    try:
        as_worker, as_reader = (own.replace("postgres@", f"{one}@") for one in names.values())
        with blocking.open_store(as_worker) as store:
            with blocking.DurableEngine(store, [shop]) as engine:
                assert engine.run(shop, 41, execution_id="one") == 42
        with open_reader(as_reader) as reader:
            details = reader.execution("one")
            assert details is not None and details.summary.status == "COMPLETED"
            found = [*reader.check_up(datetime.now(UTC))]
            assert {one.check for one in found if one.level.needs_somebody} <= {"server"}
        with pytest.raises(StoreError, match="the user may not do that"):
            blocking.open_store(as_reader).delete_execution("one")
    finally:
        for unique in names.values():
            by_hand(f"drop owned by {unique}; drop role {unique}")
