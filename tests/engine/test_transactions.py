"""Steps in the same transaction as the tables of the user: exactly once, on both stores."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ClaimLostError,
    DurableEngine,
    DurableEngineObserver,
    RetryPolicy,
    SerializationError,
    SqliteCheckpointStore,
    StepCheckpoint,
    StoreBusyError,
    TransactionMisuseError,
    TransactionTimeoutError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowSignal,
    open_store,
    workflow,
)
from durable_workflow_sqlite.store.connection import open_connection
from durable_workflow_sqlite.store.statement_store import StatementStore
from durable_workflow_sqlite.testing import check_code
from tests.own_tables import Database
from tests.processes import an_engine, die, run_until_killed, until

QUICK = RetryPolicy.fixed(max_attempts=3, delay=timedelta(milliseconds=5))
ONCE = RetryPolicy(max_attempts=1)

Open = Callable[[], Any]


@pytest.fixture(params=["file", "memory", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    return Database(request.param, tmp_path)


async def recorded(store: StatementStore, execution: str = "e") -> list[tuple[str, int, str]]:
    found = await store.load_checkpoints(execution)
    return [(one.step_name, one.attempt, one.status.value) for one in found]


async def test_the_rows_and_the_outcome_are_one_write(database: Database) -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> list[int]:
        return [await ctx.transaction("reserve", database.put, sku) for sku in ("a", "b")]

    async with database.store() as store, DurableEngine(store) as engine:
        assert await engine.run(order, execution_id="e") == [1, 2]
        assert await store.read(database.all) == ["a", "b"]
        one, two = await store.load_checkpoints("e")
        assert (one.event, two.event) == (1, 2)
        assert one.started_at is not None
        assert one.completed_at is not None
        assert await recorded(store) == [
            ("reserve", 1, "COMPLETED"),
            ("reserve", 1, "COMPLETED"),
        ]


async def test_nothing_stays_of_an_attempt_that_fails(database: Database) -> None:
    tried: list[int] = []

    def flaky(connection: Any, sku: str) -> int:
        count = database.put(connection, sku)
        tried.append(count)
        if len(tried) < 3:
            raise ConnectionError(f"attempt {len(tried)}")
        return count

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        return await ctx.transaction("reserve", flaky, "a", retry=QUICK)

    async with database.store() as store, DurableEngine(store) as engine:
        assert await engine.run(order, execution_id="e") == 1
        assert tried == [1, 1, 1]
        assert await store.read(database.all) == ["a"]
        failed = await store.load_checkpoints("e")
        assert [one.error_message for one in failed] == ["attempt 1", "attempt 2", None]
        assert [one.event for one in failed] == [None, None, 1]


async def test_the_last_error_reaches_the_workflow_and_ends_it(database: Database) -> None:
    def fails(connection: Any) -> None:
        database.put(connection, "a")
        raise LookupError("sold out")

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        with pytest.raises(LookupError, match="sold out"):
            await ctx.transaction("first", fails, retry=ONCE)
        await ctx.transaction("second", fails, retry=ONCE)
        return ""

    async with database.store() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError, match="sold out"):
            await engine.run(order, execution_id="e")
        assert await store.read(database.all) == []
        assert await recorded(store) == [("first", 1, "FAILED"), ("second", 1, "FAILED")]


async def test_a_result_that_cannot_be_stored_takes_the_rows_back(database: Database) -> None:
    def wrong(connection: Any) -> int:
        database.put(connection, "a")
        return "no number"  # type: ignore[return-value]

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        with pytest.raises(SerializationError, match="read as int"):
            await ctx.transaction("wrong", wrong, retry=QUICK, compensate=print)
        return "done"

    async with database.store() as store, DurableEngine(store) as engine:
        assert await engine.run(order, execution_id="e") == "done"
        assert await store.read(database.all) == []
        assert await recorded(store) == [("wrong", 1, "FAILED")]


def commits(connection: Any) -> None:
    connection.commit()


def commits_by_statement(connection: Any) -> None:
    connection.execute("commit")


def commits_and_hides_it(connection: Any) -> None:
    with suppress(Exception):
        connection.execute("/* now */ COMMIT;")


def commits_by_another_cursor(connection: Any) -> None:
    is_sqlite = isinstance(connection, sqlite3.Connection)
    (connection.cursor(sqlite3.Cursor) if is_sqlite else connection.cursor()).execute("commit")


def commits_past_the_class_of_the_connection(connection: Any) -> None:
    is_sqlite = isinstance(connection, sqlite3.Connection)
    (sqlite3.Connection if is_sqlite else type(connection)).execute(connection, "commit")


def rolls_back(connection: Any) -> None:
    connection.rollback()


def rolls_back_by_statement(connection: Any) -> None:
    connection.execute("rollback")


def begins(connection: Any) -> None:
    connection.execute("begin")


def closes(connection: Any) -> None:
    connection.close()


def uses_with(connection: Any) -> None:
    with connection:
        pass


def changes_a_setting(connection: Any) -> None:
    is_sqlite = isinstance(connection, sqlite3.Connection)
    connection.execute("pragma synchronous = off" if is_sqlite else "set synchronous_commit = off")


def changes_the_library(connection: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("update workflow_executions set status = 'COMPLETED'")
    else:
        schema = connection.store_schema
        connection.execute(f"update {schema}.workflow_executions set status = 'COMPLETED'")


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "misuse",
    [
        commits,
        commits_by_statement,
        commits_and_hides_it,
        commits_by_another_cursor,
        commits_past_the_class_of_the_connection,
        rolls_back,
        rolls_back_by_statement,
        begins,
        closes,
        uses_with,
        changes_a_setting,
        changes_the_library,
    ],
)
async def test_what_only_the_library_may_do_is_refused(
    database: Database, misuse: Callable[[Any], None]
) -> None:
    def function(connection: Any) -> None:
        database.put(connection, "a")
        misuse(connection)

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        with pytest.raises(TransactionMisuseError):
            await ctx.transaction("misuse", function, retry=QUICK)
        return "done"

    async with database.store() as store, DurableEngine(store) as engine:
        assert await engine.run(order, execution_id="e") == "done"
        assert await store.read(database.all) == []
        assert await recorded(store) == [("misuse", 1, "FAILED")]
        with pytest.raises(TransactionMisuseError):
            await store.write(function)
        assert await store.read(database.all) == []
        await store.write(database.put, "b")
        assert await store.read(database.all) == ["b"]


@pytest.mark.parametrize("kind", ["attach ':memory:' as other", "detach other"])
async def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    async with open_store(tmp_path / "workflows.db") as store:
        with pytest.raises(TransactionMisuseError, match="attach"):
            await store.write(lambda connection: connection.execute(kind))


async def test_settings_of_the_connection_do_not_stay(tmp_path: Path) -> None:
    def by_name(connection: sqlite3.Connection) -> str:
        connection.row_factory = sqlite3.Row
        return str(connection.execute("select 1 as one").fetchone()["one"])

    def changes_isolation(connection: sqlite3.Connection) -> None:
        connection.isolation_level = "IMMEDIATE"

    async with open_store(tmp_path / "workflows.db") as store:
        assert await store.write(by_name) == "1"
        assert await store.read(by_name) == "1"
        assert await store.write(lambda one: one.execute("select 1").fetchone()) == (1,)
        with pytest.raises(TransactionMisuseError, match="isolation_level"):
            await store.write(changes_isolation)
        assert await store.write(lambda one: one.execute("select 2").fetchone()) == (2,)


async def test_a_function_that_takes_too_long_has_done_nothing(database: Database) -> None:
    def slow(connection: Any) -> None:
        database.put(connection, "a")
        time.sleep(0.1)

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        with pytest.raises(TransactionTimeoutError, match=r"longer than 0\.05 s"):
            await ctx.transaction(
                "slow", slow, timeout=timedelta(milliseconds=50), retry=ONCE, compensate=print
            )
        return "done"

    async with database.store() as store, DurableEngine(store) as engine:
        assert await engine.run(order, execution_id="e") == "done"
        assert await store.read(database.all) == []
        (failed,) = await store.load_checkpoints("e")
        assert failed.error_type == "durable_workflow_sqlite.errors:TransactionTimeoutError"
        assert failed.compensate_ref is None


async def test_a_function_that_goes_on_after_its_timeout_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database("file", tmp_path)
    goes_on = threading.Event()

    def waits(_: Any) -> None:
        assert goes_on.wait(30)

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.transaction("waits", waits, timeout=timedelta(milliseconds=10), retry=ONCE)

    async with database.store() as store, DurableEngine(store) as engine:
        handle = await engine.start(order, execution_id="e")
        await until(lambda: "transaction 'waits' of execution 'e' goes on" in caplog.text)
        goes_on.set()
        with pytest.raises(WorkflowFailedError):
            await handle.result()


async def test_one_that_waits_for_its_turn_is_not_said_to_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database("file", tmp_path)

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.transaction("slow", lambda _: time.sleep(1)),
            ctx.transaction("quick", database.put, "a", timeout=timedelta(milliseconds=300)),
        )

    async with database.store() as store, DurableEngine(store) as engine:
        await engine.run(order, execution_id="e")
        assert await store.read(database.all) == ["a"]
    assert "goes on" not in caplog.text


async def test_a_check_of_the_code_knows_it(tmp_path: Path) -> None:
    database = Database("file", tmp_path)

    def made(name: str) -> Any:
        @workflow(name="order")
        async def order(ctx: WorkflowContext) -> int:
            count = await ctx.transaction(name, database.put, "a")
            await ctx.wait_signal("go")
            return count

        return order

    async with database.store() as store, DurableEngine(store) as engine:
        await engine.start(made("put"), execution_id="e")
        while not await store.load_open_waits("e", "go"):
            await asyncio.sleep(0.01)
    assert check_code(database.url, [made("put")]).is_ok
    assert not check_code(database.url, [made("other")]).is_ok
    async with database.store() as store:
        assert await store.read(database.all) == ["a"]


async def test_a_statement_that_takes_too_long_is_interrupted(database: Database) -> None:
    then: list[Exception] = []

    def endless(connection: Any) -> None:
        database.put(connection, "a")
        try:
            if database.is_postgres:
                connection.execute("select pg_sleep(60)")
            else:
                connection.execute(
                    f"insert into {database.table} with recursive n(i) as (select 1 union all"
                    " select i + 1 from n) select i from n"
                )
        except Exception:
            # SQLite has rolled back all of it: what comes now must not be a transaction of its own.
            try:
                database.put(connection, "b")
            except Exception as error:
                then.append(error)

    async with database.store() as store:
        began = time.monotonic()
        with pytest.raises(TransactionTimeoutError):
            await store.write(endless, timeout=timedelta(milliseconds=50))
        assert time.monotonic() - began < 30
        assert len(then) == 1
        assert await store.read(database.all) == []


async def test_the_event_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    entered, goes_on = threading.Event(), threading.Event()

    def waits(_: Any) -> str:
        entered.set()
        assert goes_on.wait(30)
        return threading.current_thread().name

    async with open_store(tmp_path / "workflows.db") as store:
        writing = asyncio.create_task(store.write(waits, timeout=timedelta(seconds=60)))
        await until(entered.is_set)
        assert await store.read(lambda one: one.execute("select 1").fetchone()) == (1,)
        goes_on.set()
        assert (await writing).startswith("durable-workflow")


async def test_a_store_on_a_connection_of_ones_own_guards_it_too(tmp_path: Path) -> None:
    database = Database("file", tmp_path)
    with closing(sqlite3.connect(database.url, check_same_thread=False)) as connection:
        async with SqliteCheckpointStore(connection) as store:
            await store.write(database.make)
            for misuse in (commits, commits_by_statement, rolls_back, begins, changes_a_setting):
                with pytest.raises(TransactionMisuseError):
                    await store.write(
                        lambda one, misuse=misuse: (database.put(one, "a"), misuse(one))
                    )
            assert await store.read(database.all) == []


async def test_a_table_can_be_made_beside_work(tmp_path: Path) -> None:
    """A new version of the schema is what a restored file has, too."""
    database = Database("file", tmp_path)

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        await ctx.transaction("make", database.make)
        return await ctx.transaction("put", database.put, "a")

    async with open_store(database.url) as store, open_store(database.url) as other:
        async with DurableEngine(store) as engine, DurableEngine(other) as beside:
            assert await engine.run(order) == 1
            assert await beside.run(order) == 2

            def fails(connection: Any) -> None:
                connection.execute("create table never (x)")
                raise LookupError

            with pytest.raises(LookupError):
                await store.write(fails)
            assert await engine.run(order) == 3


async def test_keys_that_are_checked_at_the_end_are_an_error_of_the_function(
    database: Database,
) -> None:
    of, to = f"{database.table}_of", f"{database.table}_to"

    def make(connection: Any) -> None:
        connection.execute(f"create table {to} (id integer primary key)")
        connection.execute(
            f"create table {of} (id integer references {to} (id) deferrable initially deferred)"
        )

    def orphan(connection: Any) -> None:
        connection.execute(f"insert into {of} values (1)")

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        try:
            await ctx.transaction("orphan", orphan, retry=ONCE)
        except Exception as error:
            return type(error).__name__
        return "none"

    async with database.store() as store, DurableEngine(store) as engine:
        await store.write(make)
        found = await engine.run(order, execution_id="e")
        assert found in ("IntegrityError", "ForeignKeyViolation", "StepFailedError")
        assert await recorded(store) == [("orphan", 1, "FAILED")]


async def test_many_side_by_side_and_steps_beside_them(database: Database) -> None:
    async def act(number: int) -> int:
        return number

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        async def item(number: int) -> None:
            branch = ctx.branch(f"item {number}")
            await branch.transaction("put", database.put, f"{number:02}")
            await branch.step("act", act, number)

        await asyncio.gather(*map(item, range(20)))
        return await ctx.step("last", act, 1)

    async with database.store() as store, DurableEngine(store) as engine:
        assert await engine.run(order, execution_id="e") == 1
        assert await store.read(database.all) == [f"{number:02}" for number in range(20)]
        events = sorted(one.event or 0 for one in await store.load_checkpoints("e"))
        assert events == list(range(1, 42))


async def test_it_is_undone_with_its_result(database: Database) -> None:
    undone: list[int] = []

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.transaction("reserve", database.put, "a", compensate=undone.append)
        raise RuntimeError("sold out")

    async with database.store() as store, DurableEngine(store) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.run(order, execution_id="e")
        assert undone == [1]
        assert await recorded(store) == [
            ("reserve:compensate", 0, "COMPENSATED"),
            ("reserve", 1, "COMPLETED"),
        ]


async def test_observers_are_told() -> None:
    told: list[str] = []

    class Observer(DurableEngineObserver):
        def on_step_start(self, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
            told.append(f"start {checkpoint.attempt}")

        def on_step_retry(self, checkpoint: StepCheckpoint, *_: Any) -> None:
            told.append(f"retry {checkpoint.attempt}")

        def on_step_complete(
            self, checkpoint: StepCheckpoint, elapsed: timedelta, *, replayed: bool
        ) -> None:
            told.append(f"{checkpoint.status.lower()} {checkpoint.attempt}")

    def flaky(_: Any) -> int:
        if "retry 1" not in told:
            raise ConnectionError
        return 1

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        return await ctx.transaction("flaky", flaky, retry=QUICK)

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, observers=[Observer()]) as engine,
    ):
        assert await engine.run(order) == 1
    assert told == ["start 1", "retry 1", "start 2", "completed 2"]


@pytest.mark.few(1)
@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_a_process_that_dies_leaves_all_or_nothing(tmp_path: Path, moment: str) -> None:
    database = Database("file", tmp_path)

    def function(connection: Any, is_to_die: bool) -> int:
        if is_to_die and moment == "before":
            die()
        count = database.put(connection, "a")
        if is_to_die and moment == "within":
            die()
        return count

    async def last(is_to_die: bool) -> None:
        if is_to_die:
            die()

    def made(is_to_die: bool) -> Any:
        @workflow(name="order")
        async def order(ctx: WorkflowContext) -> int:
            count = await ctx.transaction("put", function, is_to_die)
            await ctx.step("last", last, is_to_die)
            return count

        return order

    async def first() -> None:
        async with an_engine(database.url) as (store, engine):
            await store.write(database.make)
            await engine.run(made(True), execution_id="e")

    async def second() -> None:
        async with open_store(database.url) as store:
            before = await store.read(database.all)
            assert before == (["a"] if moment == "after" else [])
        async with an_engine(database.url, workflows=[made(False)]) as (store, engine):
            assert await engine.result_of("e") == 1
            assert await store.read(database.all) == ["a"]

    run_until_killed(first)
    with closing(sqlite3.connect(database.url)) as connection:
        assert connection.execute(
            "select count(*) from workflow_in_doubt where step_name = 'put'"
        ).fetchone() == (0,)
    asyncio.run(second())


async def test_a_value_that_somebody_gives_counts_instead(database: Database) -> None:
    tried: list[int] = []

    def fails(connection: Any) -> int:
        tried.append(database.put(connection, "a"))
        raise ConnectionError

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        retry = RetryPolicy.fixed(max_attempts=9, delay=timedelta(hours=1))
        return await ctx.transaction("put", fails, retry=retry)

    async with database.store() as store, DurableEngine(store) as engine:
        handle = await engine.start(order, execution_id="e")

        async def has_failed() -> bool:
            return bool(await store.load_checkpoints("e"))

        while not await has_failed():
            await asyncio.sleep(0.01)
        await engine.resolve("e", "put", 7)
        assert await handle.result() == 7
        assert tried == [1]
        assert await store.read(database.all) == []


async def test_a_value_for_something_else_does_not_keep_it_from_its_next_attempt(
    database: Database,
) -> None:
    async with database.store() as store, DurableEngine(store) as engine, asyncio.timeout(30):
        calls: list[int] = []

        def put(_: Any) -> int:
            calls.append(1)
            if len(calls) == 1:
                raise ValueError("not yet")
            return 5

        @workflow
        async def order(ctx: WorkflowContext) -> int:
            retry = RetryPolicy(max_attempts=2, initial_delay=timedelta(seconds=0.2))
            return await ctx.transaction("put", put, retry=retry)

        handle = await engine.start(order, execution_id="e")
        while not await store.load_checkpoints("e"):
            await asyncio.sleep(0.005)
        stray = WorkflowSignal(
            workflow_execution_id="e",
            signal_name="$resolved",
            payload='{"step": "pur", "value": 7}',
        )
        await store.save(stray)
        assert await handle.result() == 5
        assert len(calls) == 2


async def test_a_worker_that_lost_its_claim_calls_nothing(database: Database) -> None:
    called: list[str] = []

    def function(connection: Any) -> int:
        called.append("function")
        return database.put(connection, "a")

    async def act() -> None:
        pass

    @workflow
    async def order(ctx: WorkflowContext) -> int:
        await ctx.step("act", act, idempotent=True)
        return await ctx.transaction("put", function)

    async with database.store() as store:

        class Thief(DurableEngineObserver):
            """Takes the claim when the transaction is about to be asked for."""

            def on_step_start(self, checkpoint: StepCheckpoint, *, replayed: bool) -> None:
                if checkpoint.step_name == "put":
                    database.steal(store)

        async with DurableEngine(store, observers=[Thief()]) as engine:
            handle = await engine.start(order, execution_id="e")
            with pytest.raises(ClaimLostError):
                await handle.result()
        assert called == []
        assert await store.read(database.all) == []
        assert await recorded(store) == [("act", 1, "COMPLETED")]


async def test_a_lock_of_somebody_else_is_waited_for(tmp_path: Path) -> None:
    database = Database("file", tmp_path)
    async with database.store() as store:
        with closing(open_connection(database.url)) as other:
            other.execute("begin immediate")
            writing = asyncio.create_task(store.write(database.put, "a"))
            await asyncio.sleep(0.1)
            assert not writing.done()
            other.execute("rollback")
            assert await writing == 1
            other.execute("begin immediate")
            with pytest.raises(StoreBusyError):
                await store.write(database.put, "b")
            other.execute("rollback")
        assert await store.read(database.all) == ["a"]


async def test_bad_arguments_are_refused_at_the_call(database: Database) -> None:
    async def is_async(connection: Any) -> None:
        pass

    refused: list[str] = []

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        for make in (
            lambda: ctx.transaction("", database.put, "a"),
            lambda: ctx.transaction("x", 7),  # type: ignore[arg-type]
            lambda: ctx.transaction("x", is_async),
            lambda: ctx.transaction("x", database.put, "a", timeout=5),  # type: ignore[arg-type]
            lambda: ctx.transaction("x", database.put, "a", timeout=timedelta(0)),
            lambda: ctx.transaction("x", database.put, "a", retry=3),  # type: ignore[arg-type]
            lambda: ctx.transaction("x", database.put, "a", compensate=3),  # type: ignore[arg-type]
        ):
            with pytest.raises((TypeError, ValueError)) as caught:
                make()
            refused.append(str(caught.value))
        return "done"

    async with database.store() as store, DurableEngine(store) as engine:
        assert await engine.run(order, execution_id="e") == "done"
        assert await store.load_checkpoints("e") == []
        assert len(refused) == 7
        for method in (store.write, store.read):
            with pytest.raises(TypeError, match="not async"):
                await method(is_async)
            with pytest.raises(TypeError, match="function"):
                await method(7)  # type: ignore[arg-type]


async def test_a_function_may_give_back_an_awaitable_by_mistake(database: Database) -> None:
    async def real() -> int:
        return 1

    def function(connection: Any) -> Any:
        database.put(connection, "a")
        return real()

    async with database.store() as store:
        with pytest.raises(TypeError, match="is async"):
            await store.write(function)
        assert await store.read(database.all) == []


async def test_a_reader_sees_one_state_and_cannot_write(tmp_path: Path) -> None:
    database = Database("file", tmp_path)
    async with database.store() as store:
        await store.write(database.put, "a")

        def twice(connection: Any) -> tuple[list[str], list[str]]:
            first = database.all(connection)
            with closing(open_connection(database.url)) as other:
                database.put(other, "b")
            return first, database.all(connection)

        assert await store.read(twice) == (["a"], ["a"])
        assert await store.read(database.all) == ["a", "b"]
        with pytest.raises(TransactionMisuseError, match="read"):
            await store.read(database.put, "c")
        with pytest.raises(TransactionTimeoutError):
            await store.read(lambda _: time.sleep(0.05), timeout=timedelta(milliseconds=10))


async def test_a_reader_may_use_table_valued_functions(tmp_path: Path) -> None:
    async with Database("file", tmp_path).store() as store:

        def numbers(connection: Any) -> list[Any]:
            sql = "select value from json_each('[1, 2]')"
            return [value for (value,) in connection.execute(sql).fetchall()]

        assert await store.read(numbers) == [1, 2]
        with pytest.raises(Exception, match="may not be modified"):
            await store.read(lambda one: one.execute("update sqlite_master set name = 'x'"))


async def test_what_a_function_keeps_is_of_no_use_later(database: Database) -> None:
    kept: list[Any] = []
    async with database.store() as store:
        await store.write(lambda connection: kept.append(connection.cursor()))
        with pytest.raises(Exception, match="has ended"):
            kept[0].execute("select 1")


@pytest.mark.parametrize("database", ["file", "postgres"], indirect=True)
async def test_a_number_left_out_by_an_attempt_that_failed_beside_steps_does_no_harm(
    database: Database,
) -> None:
    """The steps have taken the next numbers, and the attempt has no use for its own."""
    undone: list[str] = []
    may_end = threading.Event()
    calls = 0

    def function(connection: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            assert may_end.wait(10)
            raise OSError("not yet")
        return database.put(connection, "a")

    async def quick(name: str) -> str:
        while not calls:
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_later(0.02, may_end.set)
        return name

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await asyncio.gather(
            ctx.branch("b").step("quick", quick, "b", compensate=undone.append),
            ctx.branch("c").step("quick", quick, "c", compensate=undone.append),
            ctx.transaction("put", function, retry=QUICK, compensate=undone.append),
        )
        await ctx.wait_signal("go")
        raise ValueError("sold out")

    async with database.store() as store:
        async with DurableEngine(store, [order]) as engine:
            await engine.start(order, execution_id="e")
            while not await store.load_open_waits("e", "go"):
                await asyncio.sleep(0.002)
        events = [one.event for one in await store.load_checkpoints("e") if one.event]
        assert sorted(events) == [2, 3, 4]
        async with DurableEngine(store, [order]) as engine:
            fork = await engine.fork("e", before="go", new_id="f")
            copied = [one.event for one in await store.load_checkpoints("f") if one.event]
            assert copied == events
            await fork.signal("go")
            with pytest.raises(WorkflowFailedError, match="sold out"):
                await fork.result()
            assert not undone  # it was not the fork that did them
            await engine.send_signal("e", "go")
            with pytest.raises(WorkflowFailedError, match="sold out"):
                await engine.result_of("e")
        assert calls == 2
        assert undone == [1, "c", "b"] or undone == [1, "b", "c"]
        assert await store.read(database.all) == ["a"]
