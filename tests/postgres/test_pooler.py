"""Behind a pooler that gives each transaction any connection: leases in place of sessions."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Generator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ClaimLostError,
    DurableEngine,
    StepStatus,
    StoreError,
    WorkflowContext,
    open_reader,
    open_store,
    workflow,
)
from durable_workflow_sqlite.stores import open_movable
from durable_workflow_sqlite.testing import CheckpointStoreContract, MaintenanceContract
from durable_workflow_sqlite.testing.contract_base import (
    WORKFLOW,
    created,
    has_news,
    new_checkpoint,
    new_execution,
    new_signal,
)
from postgres_server import new_database
from tests import postgres_server
from tests.postgres.test_lost_sessions import until

if TYPE_CHECKING:
    from durable_workflow_sqlite.postgres.store import PostgresStore

_opened = ExitStack()
_pooled: dict[str, str] = {}


def url_of_pooler() -> str:
    """One pooler for all tests of this process."""
    from tests.postgres.pooler import running_pooler

    server = postgres_server.url()
    if server not in _pooled:
        _pooled[server] = _opened.enter_context(running_pooler(server))
    return _pooled[server]


@pytest.fixture(scope="module", autouse=True)
def stop_the_pooler() -> Generator[None]:
    yield
    _opened.close()
    _pooled.clear()


@pytest.fixture
def pooled() -> Generator[str]:
    """A database of its own, behind the pooler."""
    server = postgres_server.url().removesuffix("postgres")
    name = f"pooled_{uuid.uuid4().hex}"
    with new_database(server, name):
        yield url_of_pooler().replace("/postgres?", f"/{name}?")


@pytest.mark.campaign
class TestBehindAPooler(CheckpointStoreContract, MaintenanceContract):
    async def open_store(self, path: Path) -> CheckpointStore:
        from durable_workflow_sqlite.postgres.store import PostgresStore

        return PostgresStore(url_of_pooler(), schema=postgres_server.schema_of(path))


@workflow
async def shop(ctx: WorkflowContext, price: int) -> int:
    paid = await ctx.wait_signal("paid", type=int)
    return await ctx.step("add", lambda: price + paid)


async def test_engines_work_and_hear_of_each_other(pooled: str) -> None:
    async with open_store(pooled) as store, open_store(pooled) as other:
        async with DurableEngine(store, [shop]) as engine, DurableEngine(other, []) as sender:
            handles = [await engine.start(shop, n, execution_id=f"shop {n}") for n in range(20)]
            for n in range(20):
                await sender.send_signal(f"shop {n}", "paid", 1)
            assert [await one.result() for one in handles] == [n + 1 for n in range(20)]
            with open_reader(pooled) as reader:
                assert sum(one.is_alive for one in reader.workers().workers) >= 1


def of_the_server(url: str) -> list[str]:
    """What doctor says of the settings of a server."""
    with open_reader(url) as reader:
        found = reader.check_up(datetime.now(UTC), quick=True)
        return [one.message for one in found if one.check == "server" and one.level != "OK"]


async def test_doctor_names_the_settings_that_sessions_behind_the_pooler_lack(pooled: str) -> None:
    lacks = "behind the pooler, sessions do not have all settings that they need: "
    async with open_store(pooled):
        pass
    (said,) = (one for one in of_the_server(pooled) if "pooler" in one)  # its jit is off
    idle = "idle_in_transaction_session_timeout = '30s'"
    assert said == f"{lacks}lock_timeout = '30s', {idle}"
    direct = postgres_server.url().removesuffix("/postgres") + urlsplit(pooled).path
    assert not any("pooler" in one for one in of_the_server(direct))


async def test_a_worker_whose_lease_has_ended_is_dead_and_writes_nothing(
    pooled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable_workflow_sqlite.postgres import presence

    store: PostgresStore
    other: PostgresStore
    async with open_store(pooled) as store, open_store(pooled) as other:  # type: ignore[assignment]
        claim = await created(store, new_execution("e"))
        assert await other.release_claims_of_the_dead(3) == []
        await asyncio.sleep(0.2)
        assert await other.release_claims_of_the_dead(3) == []  # it has the lease for longer
        # It says nothing any more, as if it were frozen.
        monkeypatch.setattr(presence, "POLL_EVERY_S", 60)
        await asyncio.sleep(0.2)
        await other._commit.write(
            lambda: other._presence._queries.renew_lease(
                other._session, worker_id=store.worker_id, seconds=0.1
            )
        )

        async def is_taken_over() -> bool:
            return bool(await other.release_claims_of_the_dead(3))

        await until(is_taken_over)
        with pytest.raises(ClaimLostError):
            await store.begin_step(new_checkpoint("e", 0, status=StepStatus.INTENT), claim=claim)
        store._presence._wake()


async def test_a_worker_that_ends_is_dead_at_once(pooled: str) -> None:
    async with open_store(pooled) as other:
        async with open_store(pooled) as store:
            await store.save_workflow(WORKFLOW)
            await created(store, new_execution("e"))
        assert [one.workflow_execution_id for one in await other.release_claims_of_the_dead(3)] == [
            "e"
        ]


def count(url: str, query: str) -> int:
    import psycopg

    with psycopg.connect(url.partition("?")[0], prepare_threshold=None) as by_hand:
        (number,) = by_hand.execute(query.encode()).fetchone() or (0,)
        assert isinstance(number, int)
        return number


LEASES = "select count(*) from durable_workflow.workflow_leases"
LOCKS = (
    "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock'"
    " and database = (select oid from pg_database where datname = current_database())"
)


async def test_a_worker_behind_a_pooler_has_a_lease_and_no_lock(pooled: str) -> None:
    async with open_store(pooled) as store:
        await created(store, new_execution("e"))
        assert (count(pooled, LEASES), count(pooled, LOCKS)) == (1, 0)
    assert count(pooled, LEASES) == 0


async def test_with_a_direct_address_beside_it_a_worker_has_a_lock_and_hears_at_once(
    pooled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable_workflow_sqlite.postgres import presence

    monkeypatch.setattr(presence, "LOOK_EVERY_S", 60)  # only what it is told of
    host = unquote(urlsplit(postgres_server.url()).hostname or "")
    url = f"{pooled}&direct={host}:5432"
    async with open_store(url) as store, open_store(pooled) as other:
        claim = await created(store, new_execution("e"))
        assert (count(pooled, LEASES), count(pooled, LOCKS)) == (0, 1)
        assert await other.release_claims_of_the_dead(3) == []
        before = store.change_counter()
        await asyncio.sleep(0.2)
        await other.send_signal(new_signal("e", "go"))
        assert await has_news(store, before)
        await store.begin_step(new_checkpoint("e", 0, status=StepStatus.INTENT), claim=claim)


def test_no_setting_stays_in_a_connection_that_others_get(pooled: str) -> None:
    import psycopg

    plain = pooled.partition("?")[0]

    async def use() -> None:
        async with open_store(pooled) as store, DurableEngine(store, [shop]) as engine:
            await engine.start(shop, 1)

    asyncio.run(use())
    with open_reader(pooled) as reader:
        reader.workers()
    with psycopg.connect(plain, autocommit=True, prepare_threshold=None) as others:
        for name, value in (
            ("lock_timeout", "0"),
            ("idle_session_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("default_transaction_read_only", "off"),
        ):
            assert others.execute(f"show {name}".encode()).fetchone() == (value,)
    assert count(pooled, LOCKS) == 0


def test_what_needs_a_session_is_refused_behind_a_pooler(pooled: str) -> None:
    with pytest.raises(StoreError, match="through a pooler"):
        open_movable(pooled, create=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("pooled=maybe", "must be yes or no"),
        ("pooled=yes&pooled=no", "twice"),
        ("pooled=no&direct=db:5432", "for a URL of a pooler"),
        ("direct=db", "must be HOST:PORT"),
        ("schema=A-B", "schema must be a name"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(given: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_store(f"postgresql://kim:secret@db:6432/app?{given}")


def test_a_direct_address_keeps_user_database_and_other_parameters() -> None:
    from durable_workflow_sqlite.postgres.address import Address

    address = Address.of("postgresql://kim:secret@pool:6432/app?sslmode=require&direct=db:5432")
    assert address.url == "postgresql://kim:secret@pool:6432/app?sslmode=require"
    assert address.direct == "postgresql://kim:secret@db:5432/app?sslmode=require"
    assert address.is_pooled
    assert "secret" not in address.name
