"""Where there is no `fcntl`, as on Windows, the library is imported and one process works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, os, sys, sysconfig, types

sysconfig.get_paths()
sys.platform = "win32"  # after what knows this system
sys.modules["fcntl"] = None
portalocker = types.ModuleType("portalocker")  # what is installed here asks for fcntl itself
portalocker.LockFlags = types.SimpleNamespace(EXCLUSIVE=os.F_TLOCK, SHARED=0, NON_BLOCKING=0)
portalocker.AlreadyLocked = portalocker.LockException = BlockingIOError
portalocker.lock = lambda file, kind: kind and os.lockf(file, kind, 0)
sys.modules["portalocker"] = portalocker

from durable_workflow_sqlite import Client, DurableEngine, SqliteCheckpointStore, workflow
from durable_workflow_sqlite.store.checkpointer import checkpoint


@workflow
async def order(ctx, number):
    by = await ctx.wait_signal("approved", type=str)
    return await ctx.step("pay", lambda: f"{number} approved by {by}")


async def main(file):
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, workflows=[order]) as engine:
            handle = await engine.start(order, 7, execution_id="one")
            await Client(store).send_signal("one", "approved", "kim")
            print(await handle.result())
            checkpoint(file)
    async with SqliteCheckpointStore.file(file) as store:
        print((await store.load_execution("one")).status)


asyncio.run(main(sys.argv[1]))
print(sorted(os.listdir(os.path.dirname(sys.argv[1]))))
"""


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform == "win32", reason="there, every test shows it")
def test_one_process_works_where_there_is_no_fcntl(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "workflows.db"
    file.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, file],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["7 approved by kim", "COMPLETED", "['workflows.db']"]
