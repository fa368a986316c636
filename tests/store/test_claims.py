"""Claims of the dead are released at once, those of the living are kept; late writes fail."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from durable_workflow_sqlite import (
    ClaimLostError,
    ExecutionStatus,
    SqliteCheckpointStore,
    StoreBusyError,
    StoreError,
    WorkflowClaim,
    WorkflowGuarantee,
)
from durable_workflow_sqlite.store import group_commit
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.testing.contract_base import (
    MINUTE,
    NOON,
    WORKFLOW,
    created,
    loaded,
    new_checkpoint,
    new_execution,
)
from tests.other_user import become_another_user
from tests.processes import a_process, until


def live_on() -> NoReturn:
    time.sleep(60)
    os._exit(0)


def claim_and_live_on(file: Path, say: Callable[[str], None]) -> None:
    async def main() -> None:
        store = SqliteCheckpointStore.file(file)
        claim = await created(store, new_execution("e"))
        say(str(claim.fencing_token))
        await asyncio.sleep(60)

    asyncio.run(main())


def test_the_claims_of_a_worker_that_is_killed_are_free_at_once(file: Path) -> None:
    async def is_refused() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            assert await store.claim_execution("e") is None
            assert await store.release_claims_of_the_dead(10) == []

    async def takes_over(token: int) -> None:
        async with SqliteCheckpointStore.file(file) as store:
            assert len(await store.release_claims_of_the_dead(10)) == 1
            claim = await store.claim_execution("e")
            assert claim is not None
            assert claim.fencing_token > token
            await store.save(new_checkpoint("e", 0), claim=claim)

    with a_process(lambda say: claim_and_live_on(file, say)) as worker:
        token = int(worker.hear())
        asyncio.run(is_refused())
        worker.kill()
        asyncio.run(takes_over(token))
    assert list(file.parent.iterdir()) == [file]


def test_a_child_that_outlives_its_parent_does_not_keep_its_claims(file: Path) -> None:
    def claim_and_fork(say: Callable[[str], None]) -> None:
        async def main() -> None:
            store = SqliteCheckpointStore.file(file)
            assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
            child = os.fork()
            if child == 0:
                live_on()
            say(str(child))
            await asyncio.sleep(60)

        asyncio.run(main())

    async def takes_over() -> None:
        async with SqliteCheckpointStore.file(file) as store, asyncio.timeout(30):
            while not await store.release_claims_of_the_dead(10):
                await asyncio.sleep(0.01)  # the child has only just begun, perhaps
            assert await store.claim_execution("e") is not None

    with a_process(claim_and_fork) as worker:
        orphan = int(worker.hear())
        try:
            worker.kill()
            os.kill(orphan, 0)  # it lives
            asyncio.run(takes_over())
        finally:
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)


async def test_a_child_that_exits_does_not_let_go_of_its_parents_claims(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, SqliteCheckpointStore.file(file) as other:
        assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
        with a_process(lambda say: say("hello")) as child:
            assert child.hear() == "hello"
            assert child.hear() == ""
        assert await other.claim_execution("e") is None


@pytest.fixture
def locked(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Another connection to the file, which can hold its lock for longer than a store waits."""
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_MS", 100)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        yield other


async def test_a_claim_that_could_not_be_released_is_released_with_those_of_the_dead(
    file: Path, locked: sqlite3.Connection
) -> None:
    async with SqliteCheckpointStore.file(file) as store, SqliteCheckpointStore.file(file) as other:
        background = WorkflowGuarantee.BEST_EFFORT_BACKGROUND
        claims = [
            await store.create_execution(WORKFLOW, new_execution(one, guarantee=background))
            for one in ("plain", "left", "kept")
        ]
        plain, left, kept = filter(None, claims)
        locked.execute("begin immediate")
        with pytest.raises(StoreBusyError):
            await store.release_claims([plain], NOON)
        with pytest.raises(StoreBusyError):
            await store.release_claims([left], NOON, trouble="it does not fit")
        assert await store.release_claims_of_the_dead(0, NOON) == []  # locked as it is
        locked.execute("rollback")
        assert await other.release_claims_of_the_dead(0, NOON) == []
        assert await other.claim_available([("order", 1)], 9, now=NOON) == []

        assert await store.release_claims_of_the_dead(0, NOON + MINUTE) == []
        found = [await store.load_execution(one) for one in ("plain", "left")]
        assert [(one.trouble, one.available_at, one.recovery_count) for one in found if one] == [
            (None, NOON + MINUTE, 0),
            ("it does not fit", NOON + MINUTE, 0),
        ]
        for one in ("plain", "left"):
            assert await other.claim_execution(one) is not None
        assert await other.claim_execution("kept") is None
        await store.save(new_checkpoint("kept", 0), claim=kept)


async def test_a_release_whose_caller_was_cancelled_is_not_forgotten(
    file: Path, locked: sqlite3.Connection
) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        claim = await created(store, new_execution("e"))
        locked.execute("begin immediate")
        releasing = asyncio.create_task(store.release_claims([claim], NOON))
        await asyncio.sleep(0)
        releasing.cancel()
        with pytest.raises(StoreBusyError):
            await store.save(new_checkpoint("e", 0))  # it was refused with this one
        locked.execute("rollback")
        assert await store.claim_execution("e") is None
        assert await store.release_claims_of_the_dead(0, NOON) == []
        assert await store.claim_execution("e") is not None


async def test_a_claim_that_was_lost_before_it_could_be_released_is_passed_over(
    file: Path, locked: sqlite3.Connection
) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        lost = await store.create_execution(WORKFLOW, new_execution("lost"))
        over = await store.create_execution(WORKFLOW, new_execution("over"))
        assert lost is not None
        assert over is not None
        locked.execute("begin immediate")
        with pytest.raises(StoreBusyError):
            await store.release_claims([lost, over], NOON, trouble="it does not fit")
        locked.execute("delete from workflow_claims where workflow_execution_id = 'lost'")
        locked.execute("commit")
        held = await store.claim_execution("lost")
        final = new_execution("over", status=ExecutionStatus.COMPLETED)
        await store.save(final, claim=over)

        assert await store.release_claims_of_the_dead(0, NOON) == []
        await store.save(new_checkpoint("lost", 0), claim=held)
        for one in ("lost", "over"):
            execution = await loaded(store, one)
            assert execution.trouble is None


async def test_what_was_released_in_the_end_is_not_released_again(
    file: Path, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        claim = await created(store, new_execution("e"))
        locked.execute("begin immediate")
        with pytest.raises(StoreBusyError):
            await store.release_claims([claim], NOON)
        locked.execute("rollback")
        await store.release_claims([claim], NOON)
        monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_MS", 60_000)
        locked.execute("begin immediate")
        async with asyncio.timeout(30):  # it needs no lock
            assert await store.release_claims_of_the_dead(0, NOON) == []
        locked.execute("rollback")


async def test_a_worker_that_was_stopped_for_a_while_can_change_nothing_under_its_old_claim(
    file: Path,
) -> None:
    """Its lock file is gone, as after somebody cleaned up, so another worker took over."""

    async with SqliteCheckpointStore.file(file) as store, SqliteCheckpointStore.file(file) as other:
        lost = await store.create_execution(WORKFLOW, new_execution("e"))
        for lock in file.parent.glob("*-worker-*"):
            lock.unlink()
        assert len(await other.release_claims_of_the_dead(10)) == 1
        held = await other.claim_execution("e")
        assert held is not None
        with pytest.raises(ClaimLostError):
            await store.save(new_checkpoint("e", 0), claim=lost)
        await other.save(new_checkpoint("e", 1), claim=held)
        assert [one.step_index for one in await store.load_checkpoints("e")] == [1]


def test_a_late_write_of_another_process_changes_nothing(file: Path) -> None:
    def write_late(say: Callable[[str], None]) -> None:
        async def main() -> None:
            store = SqliteCheckpointStore.file(file)
            claim = await created(store, new_execution("e"))
            await store.release_claims([claim])
            say("released")
            await until(lambda: list(file.parent.glob("taken")))
            try:
                await store.save(new_checkpoint("e", 0), claim=claim)
            except ClaimLostError:
                say("lost")
            else:
                say("written")

        asyncio.run(main())

    async def take() -> WorkflowClaim | None:
        async with SqliteCheckpointStore.file(file) as store:
            claim = await store.claim_execution("e")
            (file.parent / "taken").touch()
            assert worker.hear() == "lost"
            assert await store.load_checkpoints("e") == []
            return claim

    with a_process(write_late) as worker:
        assert worker.hear() == "released"
        assert asyncio.run(take()) is not None


def test_many_that_ask_at_once_find_a_dead_worker_dead(file: Path) -> None:
    async def ask(store: SqliteCheckpointStore) -> bool:
        found = await asyncio.to_thread(store._lock.is_alive, "0" * 32)
        return not found

    async def main() -> None:
        stores = [SqliteCheckpointStore.file(file) for _ in range(4)]
        try:
            for _ in range(50):
                file.with_name(f"{file.name}-worker-{'0' * 32}").touch()
                assert all(await asyncio.gather(*(ask(store) for store in stores)))
        finally:
            for store in stores:
                await store.close()

    asyncio.run(main())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_workers_of_several_users_respect_each_other() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "workflows.db"
        folder.chmod(0o1777)

        def ask(say: Callable[[str], None]) -> None:
            become_another_user()

            async def main() -> None:
                store = SqliteCheckpointStore.file(file)
                say("refused" if await store.claim_execution("e") is None else "claimed")

            asyncio.run(main())

        def share_the_database() -> None:
            for one in folder.iterdir():
                one.chmod(0o644 if "-worker-" in one.name else 0o666)

        async def main() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
                share_the_database()
                with a_process(ask) as other_user:
                    assert other_user.hear() == "refused"

        asyncio.run(main())


async def test_a_closed_store_takes_on_nothing_more(file: Path) -> None:
    store = SqliteCheckpointStore.file(file)
    assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.create_execution(WORKFLOW, new_execution("f"))
    async with SqliteCheckpointStore.file(file) as other:
        (abandoned,) = await other.release_claims_of_the_dead(9)
        assert abandoned.workflow_execution_id == "e"


@pytest.mark.parametrize("worker_id", ["[" * 5000, "../elsewhere", "half/a/path", "\x00", ""])
async def test_a_worker_id_that_was_written_by_hand_is_of_nobody(
    file: Path, worker_id: str
) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        await store.save(WORKFLOW, new_execution("e"))
        with closing(sqlite3.connect(file)) as dba, dba:
            dba.execute(
                "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
                " values ('e', ?, '2026-01-01T00:00:00.000000Z')",
                (worker_id,),
            )
        (abandoned,) = await store.release_claims_of_the_dead(10)
        assert abandoned.workflow_execution_id == "e"
        assert await store.claim_execution("e") is not None


async def test_what_a_dead_worker_died_of_is_looked_for_without_the_lock(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads all steps of an execution, which may be 100,000: nobody is to wait for that."""
    queries, looked = load_queries(), list[bool]()
    look = queries.load_at_work

    def load_at_work(connection: Any, **given: Any) -> list[Any]:
        looked.append(connection.in_transaction)
        return look(connection, **given)

    store = SqliteCheckpointStore.file(file)
    for one in ("runs", "released", "waits"):
        assert await store.create_execution(WORKFLOW, new_execution(one)) is not None
    await store.close()
    monkeypatch.setattr(queries, "load_at_work", load_at_work)
    async with SqliteCheckpointStore.file(file) as other:
        found = await other.release_claims_of_the_dead(9)
        assert {one.workflow_execution_id for one in found} == {"runs", "released", "waits"}
        for one in ("runs", "released", "waits"):
            assert (await other.load_execution(one)).recovery_count == 1  # type: ignore[union-attr]
    assert looked == [False]


async def test_what_another_worker_has_released_meanwhile_is_blamed_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = load_queries()
    look = queries.load_at_work
    store = SqliteCheckpointStore.file(file)
    assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
    await store.close()

    def load_at_work(connection: Any, **given: Any) -> list[Any]:
        found = look(connection, **given)
        with closing(sqlite3.connect(file)) as another, another:
            another.execute("delete from workflow_claims")
        return found

    monkeypatch.setattr(queries, "load_at_work", load_at_work)
    async with SqliteCheckpointStore.file(file) as other:
        assert await other.release_claims_of_the_dead(9) == []
        assert (await other.load_execution("e")).recovery_count == 0  # type: ignore[union-attr]
