"""An upload in chunks, each a step. It is killed in the middle, and continues where it stopped.

    python chunked_upload.py

The chunk that was being sent is in doubt: it may have arrived. It is sent again with the same
idempotency key, so the receiver recognizes it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from durable_workflow_sqlite import (
    DurableEngine,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

CHUNKS = 8
DIES_AT = 5


@workflow
async def upload(ctx: WorkflowContext, folder: str, chunks: int) -> int:
    total = 0
    for number in range(chunks):
        key = ctx.idempotency_key(f"chunk {number}")
        total += await ctx.step(f"chunk {number}", send, folder, number, key)
    return total


def send(folder: str, number: int, key: str) -> int:
    """Send a chunk to the receiver. Here this is a log, which has the key of each chunk."""
    log = Path(folder, "received.log")
    with log.open("a", encoding="utf-8") as receiver:
        receiver.write(f"{number} {key}\n")
    if number == DIES_AT and log.read_text().count(key) == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # after it was sent, before that is recorded
    return 1000


async def main(folder: str) -> None:
    async with (
        SqliteCheckpointStore.file(Path(folder, "workflows.db")) as store,
        DurableEngine(store, workflows=[upload]) as engine,
    ):
        print("uploaded", await engine.run(upload, folder, CHUNKS, execution_id="film.mp4"))


def play() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder]
        first = subprocess.run(command, check=False)
        assert first.returncode == -signal.SIGKILL
        print(f"killed while it sent chunk {DIES_AT}; started again")
        subprocess.run(command, check=True)
        received = Path(folder, "received.log").read_text().splitlines()
    numbers = [int(line.split()[0]) for line in received]
    print("sent:", *numbers)
    # The chunk in doubt was sent twice, with the same key; the receiver keeps it once.
    assert numbers == [0, 1, 2, 3, 4, DIES_AT, DIES_AT, 6, 7]
    assert len(set(received)) == CHUNKS


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        play()
