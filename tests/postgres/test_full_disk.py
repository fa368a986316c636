"""The disk of the server is full while workers work: they wait, and go on when there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import postgres_server
from durable_workflow_sqlite import DurableEngine, WorkflowContext, open_store, workflow
from tests.faults.crew import run_until_done
from tests.faults.disks import a_disk_in_memory, fill

pytestmark = [pytest.mark.campaign, pytest.mark.faults]

SIZE = "80m"
"""Of the disk: a new server needs a half of it."""
GROWING = ("step_checkpoints", "workflow_signals", "own_rows")
COPIES = 2
ACTION_S = 0.02
WAIT_S = 60


class Small(NamedTuple):
    """A server whose data is on a small disk."""

    folder: Path
    disk: Path
    url: str

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def is_running(self) -> bool:
        return (self.folder / "data" / "postmaster.pid").exists()

    def fill(self) -> None:
        fill(self.disk / "ballast")

    def make_room(self) -> None:
        (self.disk / "ballast").unlink()


@pytest.fixture
def small(url: str, tmp_path: Path) -> Generator[Small]:
    folder = postgres_server.new_folder()
    disk = Path(f"{folder}-disk")
    try:
        with a_disk_in_memory(disk, SIZE):
            try:
                server = postgres_server.start(folder, data=disk / "data")
                yield Small(folder, disk, f"{server}postgres")
            finally:
                postgres_server.stop(folder)
    finally:
        disk.rmdir()


def until(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up_at, "it does not become so"
        time.sleep(0.01)


async def test_a_transaction_whose_own_rows_find_no_room_waits(small: Small) -> None:
    """There is room for the record that it has failed, and still it has not."""
    import psycopg

    def put(connection: Any) -> int:
        row = "insert into public.own select repeat(n::text, 4000) from generate_series(1, 9) n"
        return int(connection.execute(row).rowcount)

    @workflow
    async def stock(ctx: WorkflowContext) -> int:
        return await ctx.transaction("put", put)

    async with open_store(small.url) as store, DurableEngine(store, [stock]) as engine:
        with psycopg.connect(small.url) as by_hand:
            by_hand.execute("create table public.own (row text)")
            by_hand.execute("alter table public.own alter column row set storage plain")
        assert await engine.run(stock) == 9  # each table has a page with room for more
        small.fill()
        handle = await engine.start(stock)
        while "No space left" not in small.log:
            await asyncio.sleep(0.01)
        small.make_room()
        async with asyncio.timeout(WAIT_S):
            while not (state := await handle.status()).is_terminal:
                await asyncio.sleep(0.01)
        assert state.value == "COMPLETED"
        assert await handle.result() == 9


@pytest.mark.parametrize("of", ["tables", "log"])
def test_while_the_disk_is_full_workers_wait(small: Small, tmp_path: Path, of: str) -> None:
    """Without room for its log, the server ends; a person makes room, and starts it."""
    import psycopg

    from tests.postgres.crew import PostgresCrew, check

    crew = PostgresCrew(
        tmp_path, 2, COPIES, action_s=ACTION_S, url=small.url, may_lose_sessions=True
    )
    with crew.look() as shell:
        for table in GROWING:  # each new row needs a new page
            shell.execute(f"alter table {table} set (fillfactor = 10)")
    try:
        for _ in range(crew.size):
            crew.hire()
        until(lambda: crew.count_lines() > 60)
        small.fill()
        if of == "log":
            with suppress(psycopg.Error), crew.look() as shell:
                shell.execute("select pg_switch_wal()")  # who writes next needs a new file
            until(lambda: not small.is_running)
        else:
            until(lambda: small.log.count("No space left") >= 10)
        small.make_room()
        if of == "log":
            postgres_server.restart(small.folder)
        run_until_done(crew, lambda: None, WAIT_S)
    finally:
        crew.dismiss()
    check(crew)
    assert crew.killed == 0
