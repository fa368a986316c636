"""Sessions are lost, and workers die or freeze: nothing is lost, and others go on."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

from durable_workflow_sqlite import ClaimLostError, StepStatus, StoreError
from durable_workflow_sqlite.testing.contract_base import (
    ORDER,
    WORKFLOW,
    created,
    has_news,
    new_checkpoint,
    new_execution,
    new_signal,
)
from postgres_server import new_database

if TYPE_CHECKING:
    import psycopg

    from durable_workflow_sqlite.postgres.store import PostgresStore

    Open = Callable[[], PostgresStore]
    ByHand = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def url(url: str) -> Generator[str]:
    """A database of its own: all of its sessions are ended."""
    with new_database(url.removesuffix("postgres"), f"lost_{uuid.uuid4().hex}") as own:
        yield own


def end_all_sessions(by_hand: ByHand) -> None:
    by_hand.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where pid != pg_backend_pid() and datname = current_database()"
        " and backend_type = 'client backend'"
    )


async def until(is_so: Callable[[], Any]) -> None:
    for _ in range(1000):
        if await is_so():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not become so")


async def sees(store: PostgresStore, other: PostgresStore) -> bool:
    """Whether a store takes another one for alive."""
    return await store._commit.read(lambda: store._presence.is_alive(other.worker_id))


async def test_a_lost_session_is_opened_again(open_store: Open, by_hand: ByHand) -> None:
    async with open_store() as store:
        claim = await created(store, new_execution("e"))
        for number in range(3):
            end_all_sessions(by_hand)
            await store.begin_step(
                new_checkpoint("e", number, status=StepStatus.INTENT), claim=claim
            )
            end_all_sessions(by_hand)
            assert len(await store.load_checkpoints("e")) == number + 1


async def test_a_worker_whose_lock_was_lost_takes_it_again(
    open_store: Open, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable_workflow_sqlite.postgres import presence

    monkeypatch.setattr(presence, "COME_BACK_S", 0)
    async with open_store() as store, open_store() as other:
        claim = await created(store, new_execution("e"))
        end_all_sessions(by_hand)
        await until(lambda: sees(other, store))
        assert await other.release_claims_of_the_dead(3) == []
        await store.begin_step(new_checkpoint("e", 0, status=StepStatus.INTENT), claim=claim)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_who_has_lost_its_lock_gives_others_the_time_to_come_back(
    open_store: Open, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """As when the server was restarted: a worker that is slower is not dead."""
    from durable_workflow_sqlite.postgres import presence

    monkeypatch.setattr(presence, "COME_BACK_S", 30 if comes_back else 0.2)
    monkeypatch.setattr(presence, "AGAIN_AFTER_S", 0.05)
    async with open_store() as slow, open_store() as quick:
        claim = await created(slow, new_execution("e"))
        await quick.join(ORDER, 1)
        returns = threading.Event()
        monkeypatch.setattr(slow._presence, "_pause", lambda: returns.wait(30))
        end_all_sessions(by_hand)
        assert await quick.release_claims_of_the_dead(3) == []
        await until(lambda: is_held(quick))

        async def is_taken_over() -> bool:
            return bool(await quick.release_claims_of_the_dead(3))

        if comes_back:
            assert not await is_taken_over()
            returns.set()
            await until(lambda: is_held(slow))
            await slow.begin_step(new_checkpoint("e", 0, status=StepStatus.INTENT), claim=claim)
        else:
            await until(is_taken_over)
            returns.set()


async def is_held(store: PostgresStore) -> bool:
    return store._presence._is_held.is_set()


async def test_a_worker_without_a_word_is_dead_and_its_late_write_is_refused(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable_workflow_sqlite.postgres import presence

    async with open_store() as store, open_store() as other:
        with monkeypatch.context() as patch:
            patch.setattr(presence, "SILENT_S", 0.2)
            patch.setattr(presence, "LOOK_EVERY_S", 60)  # it says nothing, as if it were frozen
            patch.setattr(presence, "AGAIN_AFTER_S", 60)
            claim = await created(store, new_execution("e"))

            async def is_taken_over() -> bool:
                return bool(await other.release_claims_of_the_dead(3))

            await until(is_taken_over)
        assert await other.claim_execution("e") is not None
        with pytest.raises(ClaimLostError):
            await store.begin_step(new_checkpoint("e", 0, status=StepStatus.INTENT), claim=claim)


async def test_a_store_hears_of_others_again_after_its_session_was_lost(
    open_store: Open, by_hand: ByHand
) -> None:
    async with open_store() as store, open_store() as other:
        await store.save(WORKFLOW, new_execution("e"))
        await store.join(ORDER, 1)
        end_all_sessions(by_hand)
        for _ in range(5):
            before = store.change_counter()
            await other.send_signal(new_signal("e", "go"))
            assert await has_news(store, before)


async def test_while_a_worker_has_lost_its_lock_it_claims_nothing_and_waits_for_nothing(
    open_store: Open, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    from durable_workflow_sqlite.postgres import presence

    monkeypatch.setattr(presence, "AGAIN_AFTER_S", 60)
    async with open_store() as store:
        await store.save(WORKFLOW, new_execution("e"))
        await store.join(ORDER, 1)
        end_all_sessions(by_hand)

        async def is_refused() -> bool:
            try:
                await store.claim_execution("unknown")
            except StoreError as refused:
                return "cannot become a worker" in str(refused)
            return False

        await until(is_refused)
        assert await store.load_execution("e") is not None
