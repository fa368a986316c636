"""Executions that begin with signals, and signals that begin an execution: one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    NewSignal,
    SerializationError,
    SignalResult,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)
from tests.processes import (
    Child,
    Harm,
    Journal,
    an_engine,
    open_harmed,
    run_process,
    run_until_killed,
    until,
)


@workflow
async def chat(ctx: WorkflowContext, user: str) -> list[str]:
    said: list[str] = []
    while (text := await ctx.wait_signal("says", type=str)) != "bye":
        said.append(f"{user}: {text}")
    return said


@workflow
async def other(ctx: WorkflowContext) -> None: ...


HELLO = NewSignal("says", "hello", key="mail-1")
BYE = NewSignal("says", "bye", key="mail-2")


def rows(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


async def nothing_is_there(store: SqliteCheckpointStore) -> None:
    assert await store.load_execution("one") is None
    assert await store.load_last_signal_id() == 0


# Starting with signals


@pytest.mark.parametrize("how", ["start", "run", "enqueue", "enqueue_named"])
async def test_an_execution_begins_with_signals(how: str) -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, workflows=[chat]) as engine,
        asyncio.timeout(20),
    ):
        more: Any = {"execution_id": "one", "signals": [HELLO, NewSignal("says", "hi"), BYE]}
        if how == "run":
            result = await engine.run(chat, "kim", **more)
        elif how == "enqueue_named":
            result = await (await engine.enqueue_named("chat", ["kim"], **more)).result()
        else:
            result = await (await getattr(engine, how)(chat, "kim", **more)).result()
        assert result == ["kim: hello", "kim: hi"]
        found = [(one.signal_name, one.signal_key) for one in await store.load_signals("one")]
        assert found == [("says", "mail-1"), ("says", None), ("says", "mail-2")]


async def test_what_is_there_already_gets_none_of_them() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(chat, "kim", execution_id="one", signals=[HELLO])
        for _ in range(2):
            assert await engine.start(chat, "kim", execution_id="one", signals=[BYE])
            assert await engine.enqueue(chat, "kim", execution_id="one", signals=[HELLO, BYE])
        assert len(await store.load_signals("one")) == 1
        with pytest.raises(ExecutionConflictError, match="other input"):
            await engine.start(chat, "lee", execution_id="one", signals=[BYE])
        # Whoever sends one of them knows that it is there.
        assert not await handle.signal("says", "hello", key="mail-1")
        assert await handle.signal("says", "bye", key="mail-2")
        assert await handle.result() == ["kim: hello"]
        assert await engine.run(chat, "kim", execution_id="one", signals=[BYE]) == ["kim: hello"]
        assert len(await store.load_signals("one")) == 2


@pytest.mark.parametrize(
    ("signals", "error", "words"),
    [
        (["says"], TypeError, "NewSignal"),
        ([("says", 1)], TypeError, "NewSignal"),
        ([NewSignal("")], ValueError, "name"),
        ([NewSignal("$cancel")], ValueError, "cancel"),
        ([NewSignal("says", object())], SerializationError, "payload of signal 'says'"),
        ([NewSignal("says", key="")], ValueError, "key"),
        ([HELLO, HELLO], ValueError, "mail-1"),
    ],
)
async def test_signals_that_cannot_be_sent_start_nothing(
    signals: Any, error: type[Exception], words: str
) -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        for begin in (engine.start, engine.enqueue):
            with pytest.raises(error, match=words):
                await begin(chat, "kim", execution_id="one", signals=signals)
        if len(signals) == 1:
            with pytest.raises(error, match=words):
                await engine.signal_or_start(chat, "kim", execution_id="one", signal=signals[0])
        await nothing_is_there(store)


async def test_a_delayed_one_keeps_its_signals_and_its_delay() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, workflows=[chat]) as engine,
    ):
        delay = timedelta(days=1)
        handle = await engine.enqueue(
            chat, "kim", execution_id="one", delay=delay, signals=[HELLO, BYE]
        )
        record = await engine.load("one")
        assert record.available_at == record.created_at + delay
        assert await handle.status() is ExecutionStatus.PENDING


@pytest.mark.campaign
def test_a_start_with_signals_is_whole_wherever_its_process_dies(file: Path) -> None:
    def begin(harm: Harm | None) -> Callable[[], Any]:
        async def main() -> None:
            async with (
                open_harmed(file, harm) as store,
                DurableEngine(store, workflows=[chat]) as engine,
            ):
                said = await engine.run(chat, "kim", execution_id="one", signals=[HELLO, BYE])
                assert said == ["kim: hello"]

        return main

    for commit in range(1, 9):
        for is_before in (True, False):
            is_killed = run_process(begin(Harm(commit, is_before)))
            found = rows(file, "select count(*) from workflow_executions")
            sent = rows(file, "select count(*), count(distinct signal_key) from workflow_signals")
            assert (found, sent) in (([(0,)], [(0, 0)]), ([(1,)], [(2, 2)]))
            if not is_killed:
                assert commit > 1
                return
    assert not run_process(begin(None))


# A signal that starts


async def test_a_signal_starts_an_execution_or_goes_to_the_one_that_is_there() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, workflows=[chat]) as engine,
        asyncio.timeout(20),
    ):
        results: list[SignalResult] = []
        # The input is of the first one: what others give is not used.
        for user, signal in (("kim", HELLO), ("kim", HELLO), ("lee", NewSignal("says", "hi"))):
            handle, result = await engine.signal_or_start(
                chat, user, execution_id="one", signal=signal
            )
            results.append(result)
        assert results == [SignalResult.STARTED, SignalResult.DUPLICATE, SignalResult.SENT]
        assert await engine.signal_or_start(
            chat, "kim", execution_id="one", signal=BYE, tags={"user": "kim"}
        )
        assert await handle.result() == ["kim: hello", "kim: hi"]
        assert await store.load_tags("one") == {}
        before = await store.load_signals("one")
        late = NewSignal("says", "late", key="mail-3")
        with pytest.raises(ExecutionFinishedError) as raised:
            await engine.signal_or_start(chat, "kim", execution_id="one", signal=late)
        assert raised.value.status == ExecutionStatus.COMPLETED
        _, result = await engine.signal_or_start(chat, "kim", execution_id="one", signal=BYE)
        assert result is SignalResult.DUPLICATE
        assert await store.load_signals("one") == before


async def test_a_signal_that_fits_nothing_there_is_refused_with_nothing_written() -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.start(chat, "kim", execution_id="one")
        await until(lambda: store.load_open_waits("one", "says"))
        with pytest.raises(SerializationError, match="was not sent"):
            await engine.signal_or_start(
                chat, "kim", execution_id="one", signal=NewSignal("says", 7)
            )
        with pytest.raises(ExecutionConflictError, match="'chat', not 'other'"):
            await engine.signal_or_start(other, execution_id="one", signal=HELLO)
        await engine.signal_or_start(chat, "kim", execution_id="one", signal=HELLO)
        with pytest.raises(ExecutionConflictError, match="mail-1"):
            await engine.signal_or_start(
                chat, "kim", execution_id="one", signal=NewSignal("says", "no", key="mail-1")
            )
        assert len(await store.load_signals("one")) == 1
        with pytest.raises(TypeError):
            await engine.signal_or_start(chat, execution_id="two", signal=HELLO)  # type: ignore[call-arg]
        with pytest.raises(ExecutionNotFoundError):
            await engine.load("two")


@pytest.mark.campaign
def test_eight_processes_at_once_start_one_execution_that_gets_each_signal_once(
    file: Path, journal: Journal
) -> None:
    processes, names = 8, [f"chat-{number}" for number in range(5)]

    def tell(number: int) -> Callable[[Callable[[str], None]], None]:
        async def main() -> None:
            async with SqliteCheckpointStore.file(file) as store:
                client = Client(store)
                for name in names:
                    for signal in (HELLO, NewSignal("says", f"I am {number}", key=f"{number}")):
                        _, result = await client.signal_or_start(
                            chat, f"user {number}", execution_id=name, signal=signal
                        )
                        journal.note(f"{name} {result}")

        return lambda _: asyncio.run(main())

    for child in [Child(tell(number)) for number in range(processes)]:
        assert not child.is_killed_in_the_end()
    for name in names:
        said = [line.removeprefix(f"{name} ") for line in journal.lines if name in line]
        counts = [said.count(one) for one in ("started", "duplicate", "sent")]
        assert counts == [1, processes - 1, processes]
    sql = "select count(*), count(distinct signal_key) from workflow_signals group by"
    assert rows(file, f"{sql} workflow_execution_id") == [(processes + 1, processes + 1)] * 5

    async def end() -> None:
        async with an_engine(file, workflows=[chat]) as (_, engine):
            for name in names:
                await engine.send_signal(name, "says", "bye")
                said = await engine.result_of(name, list[str])
                assert len(said) == processes + 1
                assert len({one.partition(":")[0] for one in said}) == 1

    asyncio.run(end())


def test_whoever_dies_over_it_may_do_it_again(file: Path) -> None:
    def tell(harm: Harm | None) -> Callable[[], Any]:
        async def main() -> None:
            async with open_harmed(file, harm) as store:
                await Client(store).signal_or_start(chat, "kim", execution_id="one", signal=HELLO)

        return main

    states: list[list[tuple[Any, ...]]] = []
    sql = (
        "select (select count(*) from workflow_executions), (select count(*) from workflow_signals)"
    )
    for harm in (Harm(1, is_before=True), Harm(1, is_before=False)):
        run_until_killed(tell(harm))
        states.append(rows(file, sql))
    assert not run_process(tell(None))
    states.append(rows(file, sql))
    assert states == [[(0, 0)], [(1, 1)], [(1, 1)]]
