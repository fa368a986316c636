"""Executions are enqueued and signalled in the caller's own transaction, on both stores."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DuplicateExecutionError,
    DurableEngine,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    NewSignal,
    PayloadTooLargeError,
    Queue,
    QueueNotFoundError,
    RetryPolicy,
    SchemaTooNewError,
    SerializationError,
    SignalResult,
    StoreError,
    TransactionClient,
    TransactionMisuseError,
    WorkflowContext,
    blocking,
    open_store,
    workflow,
)
from tests import postgres_server
from tests.own_tables import Database


@workflow(name="ship")
async def ship(ctx: WorkflowContext, number: int) -> int:
    return number


@workflow(name="tell")
async def tell(ctx: WorkflowContext, text: str) -> str:
    return text


@workflow(name="wait")
async def wait(ctx: WorkflowContext) -> int:
    return await ctx.wait_signal("go", type=int)


@pytest.fixture(params=["file", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    return Database(request.param, tmp_path)


def connected(database: Database) -> Any:
    """A connection of the user, as its driver opens it."""
    if database.is_postgres:
        import psycopg

        return closing(psycopg.connect(postgres_server.url()))
    return closing(sqlite3.connect(database.url))


def client_of(database: Database, connection: Any) -> TransactionClient:
    return TransactionClient(connection, schema=database.schema or None)


@pytest.mark.few(1)
async def test_the_row_and_the_execution_are_one_commit(database: Database) -> None:
    async with database.store() as store, DurableEngine(store, [ship]) as engine:
        with connected(database) as connection:
            database.put(connection, "a")
            handle = await engine.enqueue(ship, 7, execution_id="e", connection=connection)
            assert await store.load_execution("e") is None
            assert await store.read(database.all) == []
            connection.commit()
            assert await handle.result() == 7
            assert await store.read(database.all) == ["a"]


async def test_what_is_rolled_back_was_never_there(database: Database) -> None:
    async with database.store() as store, DurableEngine(store, [ship, wait]) as engine:
        await engine.start(wait, execution_id="waits")
        with connected(database) as connection:
            database.put(connection, "a")
            await engine.enqueue(ship, 7, execution_id="e", connection=connection)
            await engine.send_signal("waits", "go", 1, connection=connection)
            connection.rollback()
        assert await store.load_execution("e") is None
        assert await store.load_signals("waits") == []
        await engine.send_signal("waits", "go", 2)
        assert await engine.result_of("waits") == 2


async def test_a_signal_is_sent_with_the_commit(database: Database) -> None:
    async with database.store() as store, DurableEngine(store, [wait]) as engine:
        handle = await engine.start(wait, execution_id="waits")
        with connected(database) as connection:
            database.put(connection, "a")
            first = await engine.send_signal("waits", "go", 5, key="k", connection=connection)
            second = await engine.send_signal("waits", "go", 5, key="k", connection=connection)
            assert (first, second) == (SignalResult.SENT, SignalResult.DUPLICATE)
            connection.commit()
        assert await handle.result() == 5


async def test_a_handler_needs_nothing_but_its_connection(database: Database) -> None:
    async with database.store() as store:
        del store

    def handler() -> str:
        with connected(database) as connection:
            database.put(connection, "a")
            client = client_of(database, connection)
            started = client.enqueue(ship, 7, execution_id="e")
            client.enqueue_named("ship", [8], execution_id="f")
            client.enqueue(wait, execution_id="w", signals=[NewSignal("stay")])
            assert client.send_signal("w", "go", 9) is SignalResult.SENT
            connection.commit()
        return started

    assert await asyncio.to_thread(handler) == "e"
    async with database.store() as store, DurableEngine(store, [ship, wait]) as engine:
        assert [await engine.result_of(one) for one in "efw"] == [7, 8, 9]
        assert await store.read(database.all) == ["a"]


async def test_a_step_in_a_transaction_enqueues_exactly_once(database: Database) -> None:
    tried: list[int] = []

    def function(connection: Any) -> str:
        database.put(connection, "a")
        started = TransactionClient(connection).enqueue(ship, 7, execution_id="shipped")
        TransactionClient(connection).send_signal("waits", "go", 3)
        tried.append(1)
        if len(tried) < 3:
            raise ConnectionError
        return started

    @workflow
    async def order(ctx: WorkflowContext) -> str:
        retry = RetryPolicy.fixed(max_attempts=3, delay=timedelta(milliseconds=5))
        return await ctx.transaction("put", function, retry=retry)

    async with database.store() as store, DurableEngine(store, [ship, wait, order]) as engine:
        waits = await engine.start(wait, execution_id="waits")
        assert await engine.run(order) == "shipped"
        assert await engine.result_of("shipped") == 7
        assert await waits.result() == 3
        assert len(await store.load_signals("waits")) == 1
        assert await store.read(database.all) == ["a"]
        await store.write(lambda one: TransactionClient(one).enqueue(ship, 8, execution_id="own"))
        assert await engine.result_of("own") == 8


async def test_what_is_refused_leaves_the_transaction_as_it_was(database: Database) -> None:
    async with database.store() as store, DurableEngine(store, [ship, wait]) as engine:
        await engine.declare(Queue("mail"))
        assert await engine.run(ship, 1, execution_id="over") == 1
        await engine.start(wait, execution_id="waits")
        while not await store.load_open_waits("waits", "go"):
            await asyncio.sleep(0.01)
        with connected(database) as connection:
            database.put(connection, "a")
            options: dict[str, Any] = {"connection": connection}
            await engine.enqueue(ship, 1, queue="mail", dedup_id="one", **options)
            for error, use in (
                (
                    ExecutionConflictError,
                    lambda: engine.enqueue(ship, 2, execution_id="over", **options),
                ),
                (QueueNotFoundError, lambda: engine.enqueue(ship, 2, queue="none", **options)),
                (
                    DuplicateExecutionError,
                    lambda: engine.enqueue(ship, 2, queue="mail", dedup_id="one", **options),
                ),
                (TypeError, lambda: engine.enqueue(ship, **options)),
                (SerializationError, lambda: engine.enqueue(ship, "x", **options)),
                (ExecutionNotFoundError, lambda: engine.send_signal("no", "go", 1, **options)),
                (ExecutionFinishedError, lambda: engine.send_signal("over", "go", 1, **options)),
                (SerializationError, lambda: engine.send_signal("waits", "go", "x", **options)),
                (ValueError, lambda: engine.enqueue_named("shp", [1], **options)),
            ):
                with pytest.raises(error):
                    await use()
            connection.commit()
        assert await store.read(database.all) == ["a"]
        statuses = await store.load_statuses(["over", "waits"])
        assert len(statuses) == 2


async def test_workers_notice_it_soon(database: Database) -> None:
    """Those of another process, too, which poll or are told."""
    async with database.store() as store, database.store() as other:
        async with DurableEngine(other, [ship]) as engine:
            with connected(database) as connection:
                for number in range(3):
                    handle = await Client(store).enqueue(ship, number, connection=connection)
                    connection.commit()
                    began = time.monotonic()
                    assert await engine.result_of(handle.execution_id) == number
                    assert time.monotonic() - began < 10


async def test_connections_that_cannot_be_used_are_refused(
    database: Database, tmp_path: Path
) -> None:
    async with database.store() as store:
        client = Client(store)
        with connected(database) as connection:
            pass
        with pytest.raises(TransactionMisuseError, match="closed"):
            await client.enqueue(ship, 1, connection=connection)
        with pytest.raises(TypeError, match="connection"):
            await client.enqueue(ship, 1, connection="workflows.db")
        with pytest.raises(TypeError, match="connection"):
            TransactionClient("workflows.db")


async def test_autocommit_is_refused_without_a_transaction(database: Database) -> None:
    async with database.store() as store:
        client = Client(store)
        if database.is_postgres:
            import psycopg

            with closing(psycopg.connect(postgres_server.url(), autocommit=True)) as connection:
                with pytest.raises(TransactionMisuseError, match="autocommit"):
                    await client.enqueue(ship, 1, connection=connection)
                with connection.transaction():
                    await client.enqueue(ship, 1, execution_id="e", connection=connection)
        else:
            with closing(sqlite3.connect(database.url, isolation_level=None)) as own:
                with pytest.raises(TransactionMisuseError, match="autocommit"):
                    await client.enqueue(ship, 1, connection=own)
                own.execute("begin immediate")
                kept = TransactionClient(own)
                await client.enqueue(ship, 1, execution_id="e", connection=own)
                own.execute("commit")
                with pytest.raises(TransactionMisuseError, match="autocommit"):
                    kept.enqueue(ship, 2)
        assert await store.load_execution("e") is not None


async def test_another_file_and_another_version_are_refused(tmp_path: Path) -> None:
    async with open_store(tmp_path / "one.db") as store:
        with closing(sqlite3.connect(tmp_path / "two.db")) as other:
            with pytest.raises(TransactionMisuseError, match="same file"):
                await Client(store).enqueue(ship, 1, connection=other)
            with pytest.raises(StoreError, match="has not the tables"):
                TransactionClient(other)
        with closing(sqlite3.connect(tmp_path / "one.db")) as newer:
            newer.execute("pragma user_version = 9999")
            with pytest.raises(SchemaTooNewError, match="9999"):
                TransactionClient(newer)


async def test_another_thread_is_refused(tmp_path: Path) -> None:
    async with open_store(tmp_path / "workflows.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "workflows.db")) as connection:
        caught: list[BaseException] = []

        def elsewhere() -> None:
            try:
                TransactionClient(connection)
            except TransactionMisuseError as error:
                caught.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert "thread" in str(caught[0])


async def test_how_rows_come_to_the_user_stays(tmp_path: Path) -> None:
    async with open_store(tmp_path / "workflows.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "workflows.db")) as connection:
        connection.row_factory = sqlite3.Row
        TransactionClient(connection).enqueue(ship, 1, execution_id="e")
        assert connection.in_transaction
        assert connection.execute("select 1 as one").fetchone()["one"] == 1


async def test_another_database_of_the_server_is_refused(tmp_path: Path) -> None:
    database = Database("postgres", tmp_path)
    import psycopg

    name = f"other_{database.schema}"
    with closing(psycopg.connect(postgres_server.url(), autocommit=True)) as by_hand:
        by_hand.execute(f"create database {name}")
        try:
            async with database.store() as store:
                other = postgres_server.url().removesuffix("postgres") + name
                with closing(psycopg.connect(other)) as connection:
                    with pytest.raises(TransactionMisuseError, match="same database"):
                        await Client(store).enqueue(ship, 1, connection=connection)
                    connection.rollback()
                    with pytest.raises(StoreError, match="has not the tables"):
                        TransactionClient(connection).enqueue(ship, 1)
        finally:
            by_hand.execute(f"drop database {name}")


async def test_an_async_connection_of_psycopg(tmp_path: Path) -> None:
    database = Database("postgres", tmp_path)
    import psycopg

    async with database.store() as store, DurableEngine(store, [ship, wait]) as engine:
        async with await psycopg.AsyncConnection.connect(postgres_server.url()) as connection:
            await connection.execute(f"insert into {database.table} values ('a')")
            handle = await engine.enqueue(ship, 3, execution_id="e", connection=connection)
            await engine.enqueue(wait, execution_id="w", connection=connection)
            await engine.send_signal("w", "go", 4, connection=connection)
            with pytest.raises(ExecutionConflictError):
                await engine.enqueue(ship, 4, execution_id="e", connection=connection)
            assert await store.load_execution("e") is None
            await connection.commit()
            assert await handle.result() == 3
            assert await engine.result_of("w") == 4
            with pytest.raises(TransactionMisuseError, match="await"):
                client_of(database, connection).enqueue(ship, 1)


def test_the_blocking_client(database: Database) -> None:
    with blocking.open_store(database.url) as store:
        store.write(database.make)
        client = blocking.Client(store)
        with connected(database) as connection:
            database.put(connection, "a")
            handle = client.enqueue(ship, 7, execution_id="e", connection=connection)
            client.enqueue(wait, execution_id="w", connection=connection)
            assert client.send_signal("w", "go", 8, connection=connection) is SignalResult.SENT
            connection.commit()
        assert store.read(database.all) == ["a"]
        with blocking.DurableEngine(store, workflows=[ship, wait]):
            assert handle.result() == 7
            assert client.result_of("w") == 8


async def test_a_workflow_function_cannot(tmp_path: Path) -> None:
    caught: list[str] = []
    async with open_store(tmp_path / "workflows.db") as store:
        with closing(sqlite3.connect(tmp_path / "workflows.db")) as connection:

            @workflow
            async def order(ctx: WorkflowContext) -> None:
                for use in (
                    lambda: TransactionClient(connection).enqueue(ship, 1),
                    lambda: asyncio.ensure_future(
                        Client(store).enqueue(ship, 1, connection=connection)
                    ),
                ):
                    try:
                        made = use()
                        if not isinstance(made, str):
                            await made
                    except BaseException as error:
                        caught.append(str(error))
                        raise

            async with DurableEngine(store) as engine:
                with pytest.raises(BaseException, match="workflow function"):
                    await engine.run(order)
    assert len(caught) == 1


class Backwards:
    """Encodes a value so that it is not seen in the file."""

    def encode(self, data: bytes, place: str) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, place: str) -> bytes:
        return data[::-1]


async def test_what_is_enqueued_is_encoded_as_the_store_does(database: Database) -> None:
    def in_a_step(connection: Any) -> None:
        TransactionClient(connection).enqueue(tell, "hush", execution_id="step")

    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.transaction("tell", in_a_step)

    async with open_store(database.url, codec=Backwards(), max_payload_bytes=100) as store:
        engine = DurableEngine(store, [tell, order])
        with connected(database) as connection:
            client = TransactionClient(
                connection,
                schema=database.schema or None,
                codec=Backwards(),
                max_payload_bytes=100,
            )
            client.enqueue(tell, "hush", execution_id="own")
            await Client(store).enqueue(tell, "hush", execution_id="given", connection=connection)
            for use in (
                lambda: client.enqueue(tell, "x" * 200),
                lambda: client.enqueue_named("tell", ["x" * 200]),
            ):
                with pytest.raises(PayloadTooLargeError):
                    use()
            connection.commit()
            async with engine:
                await engine.run(order)
                for one in ("own", "given", "step"):
                    assert await engine.result_of(one) == "hush"
            table = "workflow_executions"
            if database.is_postgres:
                table = f"{database.schema}.{table}"
            seen = connection.execute(f"select input_data, output_data from {table}").fetchall()
            assert len(seen) == 4
            assert "hush" not in str(seen)
