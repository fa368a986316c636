"""A backup that is restored into a file with living workers: they stop, and write nothing there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    ClaimLostError,
    ExecutionStatus,
    Record,
    SqliteCheckpointStore,
    StepStatus,
    StoreBusyError,
    StoreGoneError,
    WorkflowClaim,
)
from durable_workflow_sqlite.store import group_commit
from durable_workflow_sqlite.testing.contract_base import (
    WORKFLOW,
    created,
    new_checkpoint,
    new_execution,
    new_signal,
)
from tests.databases import new_database
from tests.processes import a_process, until
from tests.store.gone import by_path, in_full

Say = Callable[[str], None]
Opened = Callable[[Path], SqliteCheckpointStore]
Act = Callable[[SqliteCheckpointStore, WorkflowClaim], Coroutine[Any, Any, None]]


EVERY_WAY = pytest.mark.parametrize("opened", [by_path, in_full])


def copy(source: Path, target: Path) -> Path:
    """As `sqlite3 SOURCE ".backup TARGET"` does, and `sqlite3 TARGET ".restore SOURCE"`."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
    return target


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    return tmp_path / "backup.db"


def steps_in(file: Path) -> list[tuple[str, int, str]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(
            "select workflow_execution_id, step_index, status from step_checkpoints"
            " order by workflow_execution_id, step_index"
        ).fetchall()


async def claimed(store: SqliteCheckpointStore, execution_id: str = "e") -> WorkflowClaim:
    return await created(store, new_execution(execution_id))


async def save(store: SqliteCheckpointStore, claim: WorkflowClaim, *numbers: int) -> None:
    for number in numbers:
        checkpoint = new_checkpoint(claim.workflow_execution_id, number)
        await store.save(checkpoint, claim=claim)


async def is_refused(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    with pytest.raises(StoreGoneError, match="was restored while it was open"):
        await save(store, claim, 99)
    for _ in range(2):
        with pytest.raises(StoreGoneError, match="was restored"):
            await store.load_execution("e")
        with pytest.raises(StoreGoneError, match="then start them again"):
            await store.save(WORKFLOW)
        assert store.change_counter() != store.change_counter()  # whoever looks meets the error


@EVERY_WAY
@pytest.mark.parametrize("number", [1, 6])
async def test_a_backup_with_the_very_claim_stops_its_worker(
    file: Path, backup: Path, opened: Opened, number: int
) -> None:
    """The token is right, and what was saved under it since the backup is missing."""

    async with opened(file) as store:
        claim = await claimed(store)
        await save(store, claim, *range(number))
        copy(file, backup)
        await save(store, claim, number)
        copy(backup, file)
        await is_refused(store, claim)
    async with opened(file) as store:
        assert len(await store.release_claims_of_the_dead(9)) == 1
        again = await store.claim_execution("e")
        assert again is not None
        await save(store, again, number)
    assert steps_in(file) == [("e", n, "INTENT") for n in range(number + 1)]


@EVERY_WAY
async def test_an_outcome_that_is_missing_stops_the_worker(
    file: Path, backup: Path, opened: Opened
) -> None:
    async with opened(file) as store:
        claim = await claimed(store)
        await save(store, claim, 0)
        copy(file, backup)
        outcome = new_checkpoint("e", 0, status=StepStatus.COMPLETED, output_data="1")
        await store.save(outcome, claim=claim)
        copy(backup, file)
        await is_refused(store, claim)
    assert steps_in(file) == [("e", 0, "INTENT")]


@EVERY_WAY
@pytest.mark.parametrize("last", ["its status", "nothing but a signal"])
async def test_steps_that_are_missing_stop_a_worker_that_has_saved_something_else_since(
    file: Path, backup: Path, opened: Opened, last: str
) -> None:
    """Of an execution that slept as the backup was made, and sleeps again."""
    asleep = new_execution("e", status=ExecutionStatus.SUSPENDED)
    async with opened(file) as store:
        claim = await claimed(store)
        await save(store, claim, 0)
        await store.save(asleep, claim=claim)
        copy(file, backup)
        await save(store, claim, 1)
        await store.save(asleep, claim=claim)
        if last == "nothing but a signal":
            await store.save(claim=claim, send=[new_signal("e", "hello")])
        copy(backup, file)
        await is_refused(store, claim)
    assert steps_in(file) == [("e", 0, "INTENT")]


@EVERY_WAY
@pytest.mark.parametrize("is_restored", [True, False])
async def test_a_run_that_follows_another_is_known_apart_from_it(
    file: Path, backup: Path, opened: Opened, is_restored: bool
) -> None:
    """The steps of the run before are deleted, which is no restore; a restore is."""
    async with opened(file) as store:
        claim = await claimed(store)
        await save(store, claim, 0)
        copy(file, backup)
        following = new_execution("e", run_number=2)
        await store.continue_as_new(following, claim=claim)
        if is_restored:
            copy(backup, file)
            await is_refused(store, claim)
        else:
            with closing(sqlite3.connect(file)) as dba:
                dba.execute("create table notes (words)")
            await save(store, claim, 0)
    assert steps_in(file) == [("e", 0, "INTENT")]


@EVERY_WAY
async def test_a_record_of_the_execution_that_is_missing_stops_the_worker(
    file: Path, backup: Path, opened: Opened
) -> None:
    async with opened(file) as store:
        claim = await claimed(store)
        copy(file, backup)
        await store.save(new_execution("e", status=ExecutionStatus.COMPENSATING), claim=claim)
        copy(backup, file)
        await is_refused(store, claim)


@EVERY_WAY
@pytest.mark.parametrize("kind", ["before the claim", "another one", "empty", "no workflows"])
async def test_a_backup_without_the_claim_stops_its_worker(
    file: Path, backup: Path, opened: Opened, kind: str
) -> None:
    """As another worker's claim may come to have the same token."""

    async with opened(file) as store:
        if kind == "before the claim":
            copy(file, backup)
        elif kind == "another one":
            async with opened(new_database(backup)) as other:
                await save(other, await claimed(other), 0, 1)
        elif kind == "empty":
            new_database(backup)
        else:
            with closing(sqlite3.connect(backup)) as connection:
                connection.execute("create table somebody_elses (id)")
        claim = await claimed(store)
        copy(backup, file)
        await is_refused(store, claim)
    assert kind == "no workflows" or ("e", 99, "INTENT") not in steps_in(file)


@EVERY_WAY
async def test_a_claim_that_comes_back_stops_the_worker_that_had_it(
    file: Path, backup: Path, opened: Opened
) -> None:
    """Else nobody would take the execution on for as long as that worker lives."""

    async with opened(file) as store:
        claim = await claimed(store)
        copy(file, backup)
        await store.save(new_execution("e", status=ExecutionStatus.COMPLETED), claim=claim)
        copy(backup, file)
        with pytest.raises(StoreGoneError, match="was restored"):
            await store.save(WORKFLOW)


async def test_a_worker_that_only_looks_for_news_is_told(file: Path, backup: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store:
        claim = await claimed(store)
        await save(store, claim, 0)
        copy(file, backup)
        await save(store, claim, 1)
        assert store.change_counter() == store.change_counter()
        copy(backup, file)
        assert store.change_counter() != store.change_counter()
        with pytest.raises(StoreGoneError, match="was restored"):
            await store.load_execution("e")


@EVERY_WAY
async def test_a_worker_without_claims_goes_on_in_what_was_restored(
    file: Path, backup: Path, opened: Opened
) -> None:
    async with opened(file) as store:
        new_database(backup)
        await store.release_claims([await claimed(store)])
        await save(store, one := await claimed(store, "f"), 0)
        await store.save(new_execution("f", status=ExecutionStatus.COMPLETED), claim=one)
        copy(backup, file)
        await save(store, await claimed(store, "g"), 0)  # its workflow is not known there
    assert steps_in(file) == [("g", 0, "INTENT")]


@EVERY_WAY
async def test_what_changes_the_schema_or_rewrites_the_file_stops_nobody(
    file: Path, backup: Path, opened: Opened
) -> None:
    def change() -> None:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=20)) as dba:
            dba.execute("create table if not exists notes (words)")
            dba.execute("create index by_words on notes (words)")
            dba.execute("drop index by_words")
            dba.execute("vacuum")
            dba.execute("analyze")
        copy(copy(file, backup), file)  # all that was saved is in it

    async with opened(file) as store:
        held, finished, released = [await claimed(store, one) for one in "efg"]
        for turn in range(4):
            change()
            for claim in (held, finished, released):
                await save(store, claim, 2 * turn)
            await store.save(new_execution("e"), new_checkpoint("e", 2 * turn + 1), claim=held)
        await store.save(new_execution("f", status=ExecutionStatus.FAILED), claim=finished)
        await store.release_claims([released])
        change()
        await save(store, held, 8)
        await store.mark_as_stopping([held])
        change()
        await save(store, held, 10)
        async with opened(file) as other:
            again = await other.claim_execution("g")
            assert again is not None
            await save(other, again, 8)
            change()
            await save(store, held, 9)
            await save(other, again, 9)


def test_claims_that_were_lost_or_could_not_be_released_are_no_restore(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "BUSY_TIMEOUT_MS", 100)

    async def main(dba: sqlite3.Connection) -> None:
        async with SqliteCheckpointStore.file(file) as store:
            lost, stuck, held = [await claimed(store, one) for one in "efg"]
            dba.execute("delete from workflow_claims where workflow_execution_id = 'e'")
            with pytest.raises(ClaimLostError):
                await save(store, lost, 0)
            dba.execute("begin immediate")
            dba.execute("create table notes (words)")
            with pytest.raises(StoreBusyError):
                await store.release_claims([stuck])
            dba.execute("commit")
            await save(store, held, 0)
            assert await store.release_claims_of_the_dead(9) == []
            dba.execute("drop table notes")
            await save(store, held, 1)

    with closing(sqlite3.connect(file, isolation_level=None)) as dba:
        asyncio.run(main(dba))


def test_every_worker_of_a_file_is_told(file: Path, backup: Path) -> None:
    def is_backed_up() -> bool:
        return backup.exists()

    def work(execution_id: str) -> Callable[[Say], None]:
        async def main(say: Say) -> None:
            async with SqliteCheckpointStore.file(file) as store:
                claim = await claimed(store, execution_id)
                await save(store, claim, 0)
                say("ready")
                await until(is_backed_up)
                await save(store, claim, 1)
                say("saved")
                number = 2
                try:
                    while True:
                        await save(store, claim, number)
                        number += 1
                        await asyncio.sleep(0.001)
                except StoreGoneError as error:
                    say(str(error))
            say("closed")

        return lambda say: asyncio.run(main(say))

    with a_process(work("e")) as one, a_process(work("f")) as other:
        assert one.hear() == other.hear() == "ready"
        copy(file, backup.with_suffix(".half")).rename(backup)
        assert one.hear() == other.hear() == "saved"
        copy(backup, file)
        assert "was restored while it was open" in one.hear()
        assert "was restored while it was open" in other.hear()
        assert one.hear() == other.hear() == "closed"
    assert steps_in(file) == [("e", 0, "INTENT"), ("f", 0, "INTENT")]


# What was committed, though nobody has been told so yet


def make_a_table(file: Path, name: str) -> None:
    """As another program may: the schema version is another one now, as after a restore."""
    with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
        connection.execute(f"create table {name} (id integer)")


async def claim_the_other(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    assert await store.claim_execution("other") is not None


async def start_a_third(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    await created(store, new_execution("third"))


async def finish_a_step(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    outcome = new_checkpoint("e", 0, status=StepStatus.COMPLETED, output_data="1")
    await store.finish_step(outcome, claim=claim)


async def finish_in_a_transaction(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    outcome = new_checkpoint("e", 0, status=StepStatus.COMPLETED, output_data="1")

    def refuse(error: BaseException) -> list[Record]:
        raise error

    await store.transact(lambda _: [outcome], refuse, claim=claim, timeout=timedelta(seconds=5))


async def fall_asleep(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    await store.save(new_execution("e", status=ExecutionStatus.SUSPENDED), claim=claim)


async def end(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    await store.save(new_execution("e", status=ExecutionStatus.COMPLETED), claim=claim)


async def begin_again(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    await store.continue_as_new(new_execution("e", run_number=2), claim=claim)


async def release(store: SqliteCheckpointStore, claim: WorkflowClaim) -> None:
    await store.release_claims([claim])


@EVERY_WAY
@pytest.mark.parametrize(
    "act",
    [
        claim_the_other,
        start_a_third,
        finish_a_step,
        finish_in_a_transaction,
        fall_asleep,
        end,
        begin_again,
        release,
    ],
)
async def test_a_write_whose_caller_was_cancelled_is_no_restored_backup(
    file: Path, opened: Opened, act: Act
) -> None:
    async with opened(file) as store:
        claim = await claimed(store)
        await save(store, claim, 0)
        # After a group of two, the next write waits for its turn.
        await asyncio.gather(store.save(WORKFLOW), store.save(new_execution("other")))
        write = asyncio.create_task(act(store, claim))
        await asyncio.sleep(0)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        await store.load_execution("e")  # after what was asked for before
        make_a_table(file, "one")
        await store.save(new_signal("other", "s"))
        assert await store.load_execution("e") is not None


@EVERY_WAY
async def test_a_look_before_the_caller_is_told_finds_no_restored_backup(
    file: Path, opened: Opened
) -> None:
    """The look at what others have done may be the next thing after a commit."""
    async with opened(file) as store:
        claim = await claimed(store)
        await save(store, claim, 0)
        store.change_counter()
        looks = 0
        for number in range(20):
            step = new_checkpoint("e", number, status=StepStatus.COMPLETED, output_data="1")
            write = asyncio.create_task(store.save(step, claim=claim))
            while not write.done():
                await asyncio.sleep(0)
                if not write.done() and steps_in(file)[-1][1:] == (number, "COMPLETED"):
                    make_a_table(file, f"t{number}")
                    store.change_counter()
                    looks += 1
                    break
            await write
        assert looks > 0
        await save(store, claim, 21)
