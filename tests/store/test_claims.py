"""A worker that dies lets go at once, one that lives is respected, a late write changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from durable_workflow_sqlite import (
    ClaimLostError,
    SqliteCheckpointStore,
    StoreError,
    WorkflowClaim,
)
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_checkpoint, new_execution
from tests.other_user import become_another_user
from tests.store.processes import a_process


def live_on() -> NoReturn:
    time.sleep(60)
    os._exit(0)


def claim_and_live_on(file: Path, say: Callable[[str], None]) -> None:
    async def story() -> None:
        store = SqliteCheckpointStore.file(file)
        claim = await store.create_execution(WORKFLOW, new_execution("e"))
        assert claim is not None
        say(str(claim.fencing_token))
        await asyncio.sleep(60)

    asyncio.run(story())


def test_the_claims_of_a_worker_that_is_killed_are_free_at_once(file: Path) -> None:
    async def is_refused() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            assert await store.claim_execution("e") is None
            assert await store.release_claims_of_the_dead(10) == []

    async def takes_over(token: int) -> None:
        async with SqliteCheckpointStore.file(file) as store:
            began = time.monotonic()
            assert len(await store.release_claims_of_the_dead(10)) == 1
            claim = await store.claim_execution("e")
            assert time.monotonic() - began < 1
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
        async def story() -> None:
            store = SqliteCheckpointStore.file(file)
            assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
            child = os.fork()
            if child == 0:
                live_on()
            say(str(child))
            await asyncio.sleep(60)

        asyncio.run(story())

    async def takes_over() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            assert len(await store.release_claims_of_the_dead(10)) == 1
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


def test_a_child_that_exits_does_not_let_go_of_its_parents_claims(file: Path) -> None:
    async def story() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            SqliteCheckpointStore.file(file) as other,
        ):
            assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
            with a_process(lambda say: say("hello")) as child:
                assert child.hear() == "hello"
                assert child.hear() == ""
            assert await other.claim_execution("e") is None

    asyncio.run(story())


def test_a_worker_that_was_stopped_for_a_while_can_change_nothing_under_its_old_claim(
    file: Path,
) -> None:
    """Its lock file is gone, as after somebody cleaned up, so another worker took over."""

    async def story() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            SqliteCheckpointStore.file(file) as other,
        ):
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

    asyncio.run(story())


def test_a_late_write_of_another_process_changes_nothing(file: Path) -> None:
    def write_late(say: Callable[[str], None]) -> None:
        async def story() -> None:
            store = SqliteCheckpointStore.file(file)
            claim = await store.create_execution(WORKFLOW, new_execution("e"))
            assert claim is not None
            await store.release_claims([claim])
            say("released")
            while not list(file.parent.glob("taken")):
                await asyncio.sleep(0.01)
            try:
                await store.save(new_checkpoint("e", 0), claim=claim)
            except ClaimLostError:
                say("lost")
            else:
                say("written")

        asyncio.run(story())

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

    async def story() -> None:
        stores = [SqliteCheckpointStore.file(file) for _ in range(4)]
        try:
            for _ in range(50):
                file.with_name(f"{file.name}-worker-{'0' * 32}").touch()
                assert all(await asyncio.gather(*(ask(store) for store in stores)))
        finally:
            for store in stores:
                await store.close()

    asyncio.run(story())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_workers_of_several_users_respect_each_other() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "workflows.db"
        folder.chmod(0o1777)

        def ask(say: Callable[[str], None]) -> None:
            become_another_user()

            async def story() -> None:
                store = SqliteCheckpointStore.file(file)
                say("refused" if await store.claim_execution("e") is None else "claimed")

            asyncio.run(story())

        def share_the_database() -> None:
            for one in folder.iterdir():
                one.chmod(0o644 if "-worker-" in one.name else 0o666)

        async def story() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
                share_the_database()
                with a_process(ask) as other_user:
                    assert other_user.hear() == "refused"

        asyncio.run(story())


def test_a_closed_store_takes_on_nothing_more(file: Path) -> None:
    async def life() -> None:
        store = SqliteCheckpointStore.file(file)
        assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.create_execution(WORKFLOW, new_execution("f"))
        async with SqliteCheckpointStore.file(file) as other:
            (abandoned,) = await other.release_claims_of_the_dead(9)
            assert abandoned.workflow_execution_id == "e"

    asyncio.run(life())


@pytest.mark.parametrize("worker_id", ["[" * 5000, "../elsewhere", "half/a/path", "\x00", ""])
def test_a_worker_id_that_was_written_by_hand_is_of_nobody(file: Path, worker_id: str) -> None:
    async def story() -> None:
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

    asyncio.run(story())
