"""The small files beside a database: for those who may use it, and never somebody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import SqliteCheckpointStore, StoreError
from durable_workflow_sqlite.store.checkpointer import checkpoint
from durable_workflow_sqlite.store.worker_lock import lock_files
from durable_workflow_sqlite.stores import open_reader
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_checkpoint, new_execution
from tests.databases import new_database
from tests.other_user import become_another_user
from tests.processes import a_process

Say = Callable[[str], None]

ALICE, BOB, TEAM = 40001, 40002, 40003
A_WORKER = "0123456789abcdef" * 2

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A database in a folder that both users can reach: pytest's own are for one user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = new_database(folder / "workflows.db")
        for path, mode in ((folder, 0o770), (file, 0o660)):
            path.chmod(mode)
            os.chown(path, -1, TEAM)
        yield file


def rights_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_gid


@ONLY_ROOT
def test_two_users_of_one_group_share_a_database_whatever_their_umask(shared: Path) -> None:
    def work(user: int, execution_id: str, other: str) -> Callable[[Say], None]:
        async def main(say: Say) -> None:
            os.umask(0o077)
            become_another_user(user, [TEAM])
            store = SqliteCheckpointStore.file(shared)
            claim = await store.create_execution(WORKFLOW, new_execution(execution_id))
            await store.save(new_checkpoint(execution_id, 0), claim=claim)
            say("claimed")
            while await store.load_execution(other) is None:
                await asyncio.sleep(0.001)
            assert await store.release_claims_of_the_dead(9) == []
            assert await store.claim_execution(other) is None
            say("respected")
            while not (abandoned := await store.release_claims_of_the_dead(9)):
                await asyncio.sleep(0.001)
            say(abandoned[0].workflow_execution_id)
            await asyncio.sleep(60)

        def body(say: Say) -> None:
            try:
                asyncio.run(main(say))
            except StoreError as error:
                say(f"{error}")

        return body

    with a_process(work(ALICE, "a", "b")) as alice:
        assert alice.hear() == "claimed"
        with a_process(work(BOB, "b", "a")) as bob:
            assert bob.hear() == "claimed"
            assert alice.hear() == bob.hear() == "respected"
            for path in shared.parent.iterdir():
                assert rights_of(path) == (0o660, TEAM), path.name
            alice.kill()
            assert bob.hear() == "a"
    assert len(lock_files(shared)) == 1


@ONLY_ROOT
def test_a_look_at_a_file_keeps_no_other_user_out(shared: Path) -> None:
    def look(say: Say) -> None:
        os.umask(0o077)
        become_another_user(ALICE, [TEAM])
        with open_reader(shared) as reader:
            say(str(reader.changes()))
            signal.pause()

    def work(say: Say) -> None:
        become_another_user(BOB, [TEAM])

        async def main() -> None:
            async with SqliteCheckpointStore.file(shared) as store:
                await store.save(WORKFLOW)
            say("saved")

        asyncio.run(main())

    with closing(sqlite3.connect(shared)) as connection:
        connection.execute("pragma journal_mode = wal")
    with a_process(look) as alice:
        assert alice.hear()
        with a_process(work) as bob:
            assert bob.hear() == "saved"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666])
def test_what_is_beside_a_database_may_be_used_by_as_many(file: Path, mode: int) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            assert await store.create_execution(WORKFLOW, new_execution("e")) is not None
            checkpoint(str(file))
            found = sorted(path for path in file.parent.iterdir() if path != file)
            kinds = [path.name.split("-")[1] for path in found]
            assert kinds == ["shm", "wal", "worker"]
            assert [rights_of(path) for path in found] == [rights_of(file)] * 3

    file.chmod(mode)
    before = os.umask(0o077)
    try:
        asyncio.run(main())
    finally:
        os.umask(before)


def test_files_of_like_names_are_not_changed(file: Path) -> None:
    def named(name: str) -> Path:
        return file.with_name(f"{file.name}{name}")

    notes = named(f"-worker-{A_WORKER}")
    notes.write_text("notes on a worker")
    others = [
        named("-worker-notes"),
        named(f"-worker-{A_WORKER.upper()}"),
        named(f"-worker-{A_WORKER}.bak"),
        named(f"-worker-{A_WORKER[1:]}"),
    ]
    for path in others:
        path.touch()
    target = file.with_name("target")
    target.touch()
    link, pipe, folder = (named(f"-worker-{digit * 32}") for digit in "abc")
    link.symlink_to(target)
    os.mkfifo(pipe)
    folder.mkdir()
    dead = named(f"-worker-{'d' * 32}")
    dead.touch()
    assert lock_files(file) == {"d" * 32: dead}

    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(WORKFLOW, *(new_execution(one) for one in (A_WORKER, *"abcd")))
            with closing(sqlite3.connect(file)) as dba, dba:  # rows that name each of them
                for one in (A_WORKER, *(digit * 32 for digit in "abcd")):
                    dba.execute(
                        "insert into workflow_claims (workflow_execution_id, worker_id, claimed_at)"
                        " values (?, ?, '2026-01-01T00:00:00.000000Z')",
                        (one if one == A_WORKER else one[0], one),
                    )
            assert len(await store.release_claims_of_the_dead(9)) == 5
            assert await store.claim_execution("a") is not None

    asyncio.run(asyncio.wait_for(main(), 60))
    assert not dead.exists()
    assert notes.read_text() == "notes on a worker"
    assert set(file.parent.iterdir()) == {file, notes, *others, target, link, pipe, folder}
