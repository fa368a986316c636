"""A payload that does not fit: its sender is refused, or the signal is; never the execution."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SerializationError,
    SignalStatus,
    SignalTimeoutError,
    SqliteCheckpointStore,
    WorkflowContext,
    WorkflowSignal,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import Journal, an_engine, die, run_until_killed, until


@dataclasses.dataclass
class Decision:
    by: str
    limit: int


@workflow
async def decide(ctx: WorkflowContext) -> str:
    decision = await ctx.wait_signal("decided", type=Decision)
    return decision.by


@workflow
async def count(ctx: WorkflowContext) -> int:
    return await ctx.wait_signal("count", type=int)


@workflow
async def anything(ctx: WorkflowContext) -> Any:
    return await ctx.wait_signal("go")


@workflow
async def maybe(ctx: WorkflowContext) -> int | None:
    return await ctx.wait_signal("count", type=int | None)


async def until_it_waits(store: SqliteCheckpointStore, name: str, one: str = "one") -> None:
    await until(lambda: store.load_open_waits(one, name))


async def signals_of(file: Path) -> list[tuple[str | None, str, str | None]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(
            "select payload, status, refused_reason from workflow_signals"
            " order by workflow_signal_id"
        ).fetchall()


async def insert(file: Path, name: str, payload: str | None) -> None:
    """As somebody does by hand, or did before the file refused what is no JSON."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma busy_timeout = 30000")
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute(
            "insert into workflow_signals (workflow_execution_id, signal_name, payload)"
            " values ('one', ?, ?)",
            (name, payload),
        )


async def test_who_sends_what_does_not_fit_is_refused_and_nothing_is_written(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(decide, execution_id="one")
        await until_it_waits(store, "decided")
        for payload in (None, 42, "kim", {"by": "kim"}, {"by": "kim", "limit": "high"}):
            with pytest.raises(SerializationError, match=r"not sent .* read as Decision"):
                await handle.signal("decided", payload)
        assert await signals_of(file) == []
        assert not (await handle.status()).is_terminal
        await handle.signal("decided", Decision("kim", 3))
        assert await handle.result() == "kim"


async def test_a_client_elsewhere_is_refused_by_what_the_record_of_the_wait_says(
    file: Path,
) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store) as engine,
        SqliteCheckpointStore.file(file) as elsewhere,
        DurableEngine(elsewhere) as client,
    ):
        handle = await engine.start(decide, execution_id="one")
        await until_it_waits(elsewhere, "decided")
        for payload, kind in ((None, "null"), (42, "a number"), (["kim"], "an array")):
            with pytest.raises(
                SerializationError,
                match=f"waits for Decision .as JSON, an object., and the payload is {kind}",
            ):
                await client.send_signal("one", "decided", payload)
        assert await signals_of(file) == []
        await client.send_signal("one", "decided", {"by": "kim", "limit": 3})
        assert await asyncio.wait_for(handle.result(), 30) == "kim"


async def test_what_a_client_cannot_know_is_marked_and_the_wait_goes_on(file: Path) -> None:
    async with (
        SqliteCheckpointStore.file(file) as store,
        DurableEngine(store) as engine,
        SqliteCheckpointStore.file(file) as elsewhere,
        DurableEngine(elsewhere) as client,
    ):
        handle = await engine.start(decide, execution_id="one")
        await until_it_waits(elsewhere, "decided")
        await client.send_signal("one", "decided", {"by": "kim", "limit": "high"})
        await client.send_signal("one", "decided", {"by": "lee", "limit": 3})
        assert await asyncio.wait_for(handle.result(), 30) == "lee"
    (refused, delivered) = await signals_of(file)
    assert refused[1] == "REFUSED"
    assert "cannot be read as Decision" in (refused[2] or "")
    assert delivered[1:] == ("DELIVERED", None)


@pytest.mark.parametrize("payload", ["kim", "{'by': 'kim'}", "", "{", "1 2"])
async def test_a_signal_by_hand_that_is_no_json_is_refused_by_any_wait(
    file: Path, payload: str
) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(anything, execution_id="one")
        await until_it_waits(store, "go")
        await insert(file, "go", payload)
        await handle.signal("go", "lee")
        assert await asyncio.wait_for(handle.result(), 30) == "lee"
    (refused, _) = await signals_of(file)
    assert (refused[0], refused[1]) == (payload, "REFUSED")
    assert "is no JSON" in (refused[2] or "")


def test_one_that_waits_in_no_worker_is_woken_refuses_and_waits_on(file: Path) -> None:
    async def begin() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            await engine.start(count, execution_id="one")
            await until_it_waits(store, "count")

    async def go_on() -> None:
        async with an_engine(file, workflows=[count]) as (_, engine):

            async def is_refused() -> bool:
                return (await signals_of(file))[0][1] == "REFUSED"

            async def is_left() -> bool:
                return (await engine.load("one")).status is ExecutionStatus.SUSPENDED

            await until(is_refused)
            await until(is_left)
            execution = await engine.load("one")
            assert (execution.trouble, execution.error_type) == (None, None)
            await engine.send_signal("one", "count", 7)
            assert await asyncio.wait_for(engine.handle("one").result(), 30) == 7

    asyncio.run(begin())
    asyncio.run(insert(file, "count", json_text := '"seven"'))
    asyncio.run(go_on())
    assert [one[:2] for one in asyncio.run(signals_of(file))] == [
        (json_text, "REFUSED"),
        ("7", "DELIVERED"),
    ]


async def test_nothing_is_undone_for_it(file: Path, journal: Journal) -> None:
    @workflow
    async def book(ctx: WorkflowContext) -> int:
        await ctx.step(
            "book",
            journal.note,
            "booked",
            compensate=lambda _: journal.note("cancelled"),
        )
        return await ctx.wait_signal("count", type=int)

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(book, execution_id="one")
        await until_it_waits(store, "count")
        await insert(file, "count", "true")
        await handle.signal("count", 7)
        assert await asyncio.wait_for(handle.result(), 30) == 7
    assert journal.lines == ["booked"]


async def test_of_two_waits_for_a_name_the_one_that_fits_takes_it(file: Path) -> None:
    @workflow
    async def both(ctx: WorkflowContext) -> list[object]:
        one, two = (
            asyncio.ensure_future(ctx.wait_signal("go", type=int)),
            asyncio.ensure_future(ctx.wait_signal("go", type=str)),
        )
        return [await one, await two]

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(both, execution_id="one")
        await until_it_waits(store, "go")
        with pytest.raises(SerializationError):
            await handle.signal("go", [])
        await handle.signal("go", "text")
        await handle.signal("go", 7)
        assert await asyncio.wait_for(handle.result(), 30) == [7, "text"]


async def test_what_was_sent_before_comes_first_so_a_later_wait_may_want_it() -> None:
    @workflow
    async def two(ctx: WorkflowContext) -> list[object]:
        return [await ctx.wait_signal("go", type=int), await ctx.wait_signal("go", type=str)]

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(two, execution_id="one")
        await until_it_waits(store, "go")
        await handle.signal("go", 7)
        await handle.signal("go", "text")  # whether the wait has taken the first one or not
        assert await asyncio.wait_for(handle.result(), 30) == [7, "text"]


async def test_a_misfit_in_time_does_not_keep_the_deadline_from_coming() -> None:
    @workflow
    async def patient(ctx: WorkflowContext) -> str:
        try:
            return str(await ctx.wait_signal("go", type=int, timeout=timedelta(milliseconds=300)))
        except SignalTimeoutError:
            return "too late"

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(patient, execution_id="one")
        await store.send_signal(
            WorkflowSignal(workflow_execution_id="one", signal_name="go", payload="{}")
        )
        assert await asyncio.wait_for(handle.result(), 30) == "too late"


async def test_an_optional_takes_null(file: Path) -> None:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        handle = await engine.start(maybe, execution_id="one")
        await until_it_waits(store, "count")
        await handle.signal("count")
        assert await asyncio.wait_for(handle.result(), 30) is None


async def test_changed_code_that_names_another_type_says_so_in_the_record(file: Path) -> None:
    @workflow(name="changing")
    async def old(ctx: WorkflowContext) -> object:
        return await ctx.wait_signal("go", type=int)

    @workflow(name="changing")
    async def new(ctx: WorkflowContext) -> object:
        return await ctx.wait_signal("go", type=str)

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.start(old, execution_id="one")
            await until_it_waits(store, "go")
        (wait,) = await store.load_open_waits("one", "go")
        assert wait.input_data == '{"type":"int","json":["number"]}'
        async with DurableEngine(store, workflows=[new]) as engine:

            async def is_said() -> bool:
                (wait,) = await store.load_open_waits("one", "go")
                return wait.input_data == '{"type":"str","json":["string"]}'

            await engine.recover()
            handle = engine.handle("one")
            await engine.send_signal("one", "other")  # nobody waits for it
            await insert(file, "go", "7")  # wakes it
            await until(is_said)
            await engine.send_signal("one", "go", "text")
            assert await asyncio.wait_for(handle.result(), 30) == "text"


async def test_a_payload_that_was_delivered_and_no_longer_fits_changed_code_is_trouble(
    file: Path,
) -> None:
    @workflow(name="changing")
    async def old(ctx: WorkflowContext) -> object:
        first = await ctx.wait_signal("go", type=int)
        return [first, await ctx.wait_signal("end")]

    @workflow(name="changing")
    async def new(ctx: WorkflowContext) -> object:
        first = await ctx.wait_signal("go", type=str)
        return [first, await ctx.wait_signal("end")]

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            handle = await engine.start(old, execution_id="one")
            await handle.signal("go", 7)
            await until_it_waits(store, "end")
        async with DurableEngine(store, workflows=[new]) as engine:
            await engine.send_signal("one", "end")
            with pytest.raises(SerializationError, match="cannot be read as str"):
                await asyncio.wait_for(engine.handle("one").result(), 30)
        execution = await loaded(store, "one")
        assert not execution.status.is_terminal
        assert "SerializationError" in (execution.trouble or "")
        assert (await signals_of(file))[0][1] == "DELIVERED"
        async with DurableEngine(store, workflows=[old]) as engine:
            assert await asyncio.wait_for(engine.handle("one").result(), 30) == [7, None]


async def test_a_wait_that_failed_for_its_payload_in_an_earlier_version_fails_again(
    file: Path,
) -> None:
    @workflow
    async def tolerant(ctx: WorkflowContext) -> str:
        try:
            return str(await ctx.wait_signal("count", type=int))
        except SerializationError as error:
            return f"{error}, {await ctx.wait_signal('end')}"

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            await engine.start(tolerant, execution_id="one")
            await until_it_waits(store, "count")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("pragma ignore_check_constraints = on")
            connection.execute(
                "insert into workflow_signals (workflow_execution_id, signal_name, payload,"
                " status) values ('one', 'count', '''{}''', 'DELIVERED')"
            )
            connection.execute(
                "update step_checkpoints set status = 'FAILED', output_data = '{}', event = 1,"
                " input_data = null, completed_at = started_at, error_message = 'no int',"
                " error_type = 'durable_workflow_sqlite.errors:SerializationError'"
            )
            connection.execute("update workflow_executions set available_at = created_at")
        async with DurableEngine(store, workflows=[tolerant]) as engine:
            await engine.send_signal("one", "end", 1)
            result = await asyncio.wait_for(engine.handle("one").result(), 30)
            assert result == "no int, 1"


async def test_plain_text_that_an_earlier_version_delivered_is_delivered_again(file: Path) -> None:
    @workflow
    async def two(ctx: WorkflowContext) -> list[object]:
        return [await ctx.wait_signal("go"), await ctx.wait_signal("end")]

    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store) as engine:
            handle = await engine.start(two, execution_id="one")
            await handle.signal("go", "kim")
            await until_it_waits(store, "end")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("pragma ignore_check_constraints = on")
            connection.execute(
                "update step_checkpoints set output_data = 'kim' where step_name = 'go'"
            )
        async with DurableEngine(store, workflows=[two]) as engine:
            await engine.send_signal("one", "end", 1)
            result = await asyncio.wait_for(engine.handle("one").result(), 30)
            assert result == ["kim", 1]


def test_it_is_refused_once_in_all_processes(file: Path, journal: Journal) -> None:
    @workflow
    async def counting(ctx: WorkflowContext) -> int:
        number = await ctx.wait_signal("count", type=int)

        def note() -> None:
            if journal.note("counted") == 1:
                die()

        await ctx.step("note", note)
        return number

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            handle = await engine.start(counting, execution_id="one")
            for payload in ('"x"', "7", "8"):
                await store.send_signal(
                    WorkflowSignal(
                        workflow_execution_id="one", signal_name="count", payload=payload
                    )
                )
            await handle.result()

    async def second_process() -> None:
        async with an_engine(file, workflows=[counting]) as (_, engine):
            assert await asyncio.wait_for(engine.handle("one").result(), 30) == 7

    run_until_killed(first_process)
    asyncio.run(second_process())
    assert [one[1] for one in asyncio.run(signals_of(file))] == [
        SignalStatus.REFUSED,
        SignalStatus.DELIVERED,
        SignalStatus.EXPIRED,
    ]


@pytest.mark.parametrize("name", ["$cancle", "$CANCEL", "$", "$ cancel"])
async def test_a_reserved_name_that_is_unknown_is_refused_by_engine_and_store(name: str) -> None:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.start(anything, execution_id="one")
        signal = WorkflowSignal(workflow_execution_id="one", signal_name=name)
        for send in (store.send_signal, store.save_signal):
            with pytest.raises(ValueError, match="reserved"):
                await send(signal)
        with pytest.raises(ValueError, match="reserved"):
            await engine.send_signal("one", name)
        assert await store.load_pending_signals("one") == []
