"""What is sent to an execution that is just ending, in another process: one of both comes first."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowSignal,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import WORKFLOW, new_execution, new_signal
from tests.processes import Child, Harm, Journal, a_process, open_harmed

SENT, FINISHED = "sent", "finished"


def save(file: Path, *records: object) -> None:
    async def main() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            await store.save(*records)  # type: ignore[arg-type]

    asyncio.run(main())


def rows(file: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


async def send(store: SqliteCheckpointStore) -> WorkflowSignal | None:
    return await store.send_signal(new_signal("e", "go"))


async def cancel(store: SqliteCheckpointStore) -> WorkflowSignal | None:
    return await store.request_cancel("e")


@pytest.mark.parametrize("ask", [send, cancel])
@pytest.mark.parametrize("fate", [signal.SIGCONT, signal.SIGKILL])
def test_it_waits_for_the_transaction_in_which_another_process_ends_the_execution(
    file: Path, ask: Callable[[SqliteCheckpointStore], object], fate: signal.Signals
) -> None:
    save(file, WORKFLOW, new_execution("e"))

    def end(_: Callable[[str], None]) -> None:
        async def main() -> None:
            # It holds the lock, the end is written, and it is stopped before the commit.
            store = open_harmed(file, Harm(1, is_before=True, kind=signal.SIGSTOP))
            await store.save(new_execution("e", status=ExecutionStatus.COMPLETED))
            await store.close()

        asyncio.run(main())

    def tell(say: Callable[[str], None]) -> None:
        async def main() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                say("asks")
                try:
                    found = ask(store)
                    assert await found is not None  # type: ignore[misc]
                    say(SENT)
                except ExecutionFinishedError as error:
                    assert error.status == ExecutionStatus.COMPLETED
                    say(FINISHED)

        asyncio.run(main())

    with a_process(end) as ending:
        _, status = os.waitpid(ending.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        with a_process(tell) as other:
            assert other.hear() == "asks"
            os.kill(ending.pid, fate)
            answer = other.hear()
            assert not other.is_killed_in_the_end()
        assert ending.is_killed_in_the_end() is (fate == signal.SIGKILL)
    is_over = fate == signal.SIGCONT
    assert answer == (FINISHED if is_over else SENT)
    ((status_now,),) = rows(file, "select status from workflow_executions")
    assert (status_now == "COMPLETED") is is_over
    states = rows(file, "select status from workflow_signals")
    assert states == ([] if is_over else [("PENDING",)])


@workflow
async def short(ctx: WorkflowContext) -> None:
    await ctx.step("do", lambda: None)


def test_whoever_was_told_that_it_was_sent_finds_it_and_nobody_else(
    file: Path, tmp_path: Path
) -> None:
    number = 60
    journal = Journal(tmp_path / "sent")

    async def run() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for one in range(number):
                await engine.run(short, execution_id=f"{one}")

    async def send_to_each() -> None:
        async with SqliteCheckpointStore.file(file) as store:
            client = Client(store)
            for one in range(number):
                while True:
                    try:
                        await client.send_signal(f"{one}", "go")
                        journal.note(f"sent {one}")
                    except ExecutionNotFoundError:
                        await asyncio.sleep(0)
                    except ExecutionFinishedError:
                        journal.note(f"finished {one}")
                        break

    running, sending = (
        Child(lambda _, body=body: asyncio.run(body())) for body in (run, send_to_each)
    )
    assert not sending.is_killed_in_the_end()
    assert not running.is_killed_in_the_end()
    found = rows(
        file, "select workflow_execution_id, status, count(*) from workflow_signals group by 1, 2"
    )
    counts = {str(one): count for one, _, count in found}
    assert {status for _, status, _ in found} <= {"EXPIRED"}
    lines = journal.lines
    assert [line for line in lines if line.startswith("fin")] == [
        f"finished {one}" for one in range(number)
    ]
    assert counts == {
        f"{one}": lines.count(f"sent {one}") for one in range(number) if f"sent {one}" in lines
    }
    assert counts  # else the one was never there in time for the other
