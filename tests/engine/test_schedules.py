"""Schedules: which times are fired, whatever happens to workers, machines, clocks and rows."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    ExecutionStatus,
    Queue,
    QueueNotFoundError,
    ScheduleNotFoundError,
    SerializationError,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)
from durable_workflow_sqlite.stores import open_reader
from durable_workflow_sqlite.testing import AsyncSandbox, ManualClock
from tests.processes import until

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")

ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_has_run() -> None:
    ran.clear()


async def note(text: str) -> None:
    ran.append(text)


@workflow
async def report(ctx: WorkflowContext, of: str) -> str:
    await ctx.step("run", note, f"{of} {ctx.now():%m-%d %H:%M}")
    return of


@workflow
async def slow(ctx: WorkflowContext, minutes: int) -> None:
    await ctx.step("begin", note, f"begin {ctx.now():%H:%M}")
    await ctx.sleep("slow", minutes * MINUTE)
    await ctx.step("end", note, f"end {ctx.now():%H:%M}")


@workflow
async def other(ctx: WorkflowContext, of: str) -> str:
    await ctx.step("run", note, f"other {of} {ctx.now():%m-%d %H:%M}")
    return of


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


async def fired(store: Any) -> list[str]:
    """The times of all executions, without their schedule, in order."""
    found = await store.load_executions_by_status(ExecutionStatus)
    return sorted(one.workflow_execution_id.split("@")[1][5:16] for one in found)


@asynccontextmanager
async def working(
    file: Path, clock: ManualClock
) -> AsyncIterator[tuple[SqliteCheckpointStore, DurableEngine]]:
    async with SqliteCheckpointStore.file(file) as store:
        engine = DurableEngine(store, workflows=[report, slow, other], clock=clock)
        async with engine:
            yield store, engine


# A schedule and its times


@pytest.mark.campaign
async def test_a_nightly_schedule_runs_for_a_year() -> None:
    async with AsyncSandbox([report], start_at=MONDAY) as durable:
        await durable.engine.schedule(
            "nightly", report, "sales", cron="30 2 * * *", tz="Europe/Berlin"
        )
        await durable.advance(365 * DAY)
        last = await durable.engine.load_schedule("nightly")
        assert last.last_execution_id == "nightly@2027-03-02T01:30:00Z"
        assert await durable.engine.result_of(last.last_execution_id, str) == "sales"
        assert await durable.store.load_tags(last.last_execution_id) == {"schedule": "nightly"}
    assert len(ran) == 365
    local = [datetime.fromisoformat(f"2026-{one[6:]}").replace(tzinfo=UTC) for one in ran[:300]]
    shown = {f"{one.astimezone(BERLIN):%H:%M}" for one in local}
    assert shown == {"02:30", "03:00"}  # once, where the clock leaves 02:30 out


async def test_the_declaration_gives_each_execution_what_it_says() -> None:
    async with AsyncSandbox([report], start_at=MONDAY) as durable:
        found = await durable.engine.schedule(
            "minutely",
            report,
            "x",
            every=10 * MINUTE,
            jitter=HOUR,
            ttl=2 * HOUR,
            priority=7,
            tags={"team": "a"},
            ends=MONDAY + 25 * MINUTE,
            overlap="all",
        )
        assert found.next_fire_at == MONDAY + 10 * MINUTE
        assert await durable.engine.next_times("minutely", 9) == [
            MONDAY + 10 * MINUTE,
            MONDAY + 20 * MINUTE,
        ]
        await durable.advance(DAY)
        assert await fired(durable.store) == ["03-02T12:10", "03-02T12:20"]
        one = await durable.engine.load("minutely@2026-03-02T12:10:00Z")
        assert (one.priority, one.created_at) == (7, MONDAY + 10 * MINUTE)
        assert one.ttl_expires_at == MONDAY + 10 * MINUTE + 2 * HOUR
        assert one.started_at is not None
        assert MONDAY + 10 * MINUTE < one.started_at <= MONDAY + 10 * MINUTE + HOUR
        tags = await durable.store.load_tags(one.workflow_execution_id)
        assert tags == {"team": "a", "schedule": "minutely"}
        over = await durable.engine.load_schedule("minutely")
        assert over.next_fire_at is None
        assert over.ended_at == MONDAY + 20 * MINUTE
        assert await durable.engine.next_times("minutely") == []


async def test_the_same_declaration_changes_nothing_and_another_one_does() -> None:
    async with AsyncSandbox([report, other], start_at=MONDAY) as durable:
        engine = durable.engine
        first = await engine.schedule("s", report, "a", cron="0 * * * *")
        await durable.advance(90 * MINUTE)
        await engine.pause_schedule("s", reason="holidays", by="kim")
        paused = await engine.load_schedule("s")
        assert paused.last_fired_at == MONDAY + HOUR
        assert (paused.paused_by, paused.paused_reason) == ("kim", "holidays")
        await durable.advance(3 * HOUR)
        assert await engine.schedule("s", report, "a", cron=" 0 *  * * *") == paused
        changed = await engine.schedule("s", other, "b", cron="30 * * * *")
        assert changed.last_fired_at == paused.last_fired_at
        assert (changed.paused_at, changed.created_at) == (paused.paused_at, first.created_at)
        assert changed.next_fire_at is None
        assert await engine.resume_schedule("s")
        assert not await engine.resume_schedule("s")
        await durable.advance(HOUR)
    assert ran == ["a 03-02 13:00", "other b 03-02 17:30"]  # nothing of the time of the pause


async def test_another_argument_keeps_the_next_time() -> None:
    async with AsyncSandbox([report], start_at=MONDAY) as durable:
        await durable.engine.schedule("s", report, "a", every=HOUR)
        await durable.advance(30 * MINUTE)
        changed = await durable.engine.schedule("s", report, "b", every=HOUR)
        assert changed.next_fire_at == MONDAY + HOUR
        await durable.advance(HOUR)
    assert ran == ["b 03-02 13:00"]


async def test_a_schedule_may_be_declared_paused_and_be_resumed_by_the_declaration() -> None:
    async with AsyncSandbox([report], start_at=MONDAY) as durable:
        found = await durable.engine.schedule("s", report, "a", every=HOUR, paused=True)
        assert found.paused_at == MONDAY
        await durable.advance(DAY)
        assert ran == []
        await durable.engine.schedule("s", report, "a", every=HOUR)
        await durable.advance(HOUR)
    assert ran == ["a 03-03 13:00"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, ValueError, "either cron"),
        ({"cron": "0 3 * * *", "every": HOUR}, ValueError, "either cron"),
        ({"cron": "0 0 30 2 *"}, ValueError, "no month has such a day"),
        ({"cron": "0 3 * *"}, ValueError, "five fields"),
        ({"cron": "0 3 * * *", "tz": "Europe/Berln"}, ValueError, "did you mean 'Europe/Berlin'"),
        ({"every": HOUR, "tz": "Europe/Berlin"}, ValueError, "tz is for cron"),
        ({"every": HOUR, "ends": datetime(2030, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001
        ({"every": HOUR, "ends": MONDAY - DAY}, ValueError, "no time from now on"),
        ({"every": timedelta(0)}, ValueError, "at least 1 s"),
        ({"every": timedelta(milliseconds=1500)}, ValueError, "whole seconds"),
        ({"every": 3600}, TypeError, "timedelta"),
        ({"every": timedelta(days=99999)}, ValueError, "at most"),
        ({"every": HOUR, "within": -HOUR}, ValueError, "within"),
        ({"every": HOUR, "jitter": 5}, TypeError, "jitter"),
        ({"every": HOUR, "overlap": "queue"}, ValueError, "overlap must be one of 'skip'"),
        ({"every": HOUR, "missed": None}, ValueError, "missed must be one of 'skip'"),
        ({"every": HOUR, "paused": 1}, TypeError, "paused"),
        ({"every": HOUR, "priority": "high"}, TypeError, "priority"),
        ({"every": HOUR, "tags": {"schedule": "x"}}, ValueError, "given by the schedule"),
    ],
)
async def test_what_cannot_be_declared_is_refused_and_nothing_is_written(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        client = Client(store, clock=ManualClock(MONDAY))
        with pytest.raises(error, match=says):
            await client.schedule("s", report, "a", **options)
        await client.schedule("there", report, "a", every=HOUR)
        with pytest.raises(error, match=says):  # nor is one changed that is there
            await client.schedule("there", report, "a", **options)
        assert [one.schedule_name for one in await client.load_schedules()] == ["there"]
        there = await client.load_schedule("there")
        assert (there.every_seconds, there.next_fire_at) == (3600, MONDAY + HOUR)


async def test_arguments_and_names_that_do_not_fit_are_refused() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        client = Client(store)
        wrong: Any = client.schedule
        with pytest.raises(TypeError):
            await wrong("s", report, every=HOUR)
        with pytest.raises(SerializationError):
            await wrong("s", report, object(), every=HOUR)
        with pytest.raises(TypeError, match="workflow"):
            await wrong("s", "report", every=HOUR)
        with pytest.raises(ValueError, match="200"):
            await client.schedule("s" * 201, report, "a", every=HOUR)
        with pytest.raises(ValueError, match="empty"):
            await client.schedule("", report, "a", every=HOUR)
        assert await store.load_schedules() == []


async def test_an_unknown_schedule_is_an_error_that_names_the_nearest() -> None:
    async with SqliteCheckpointStore.in_memory() as store:
        client = Client(store)
        with pytest.raises(ScheduleNotFoundError, match="none at all"):
            await client.load_schedule("nightly")
        await client.schedule("nightly", report, "a", cron="0 3 * * *")
        for asked in (
            client.load_schedule("nigthly"),
            client.pause_schedule("nigthly"),
            client.resume_schedule("nigthly"),
            client.trigger("nigthly"),
            client.backfill("nigthly", MONDAY, MONDAY),
            client.next_times("nigthly"),
        ):
            with pytest.raises(ScheduleNotFoundError, match="did you mean 'nightly'"):
                await asked
        assert not await client.unschedule("nigthly")
        assert await client.unschedule("nightly")
        assert await client.load_schedules() == []


async def test_the_executions_are_in_the_queue_of_the_schedule() -> None:
    async with AsyncSandbox([slow], start_at=MONDAY) as durable:
        engine = durable.engine
        with pytest.raises(QueueNotFoundError, match="llm"):
            await engine.schedule("s", slow, 1, every=HOUR, queue="llm")
        with pytest.raises(ValueError, match="without a queue"):
            await engine.schedule("s", slow, 1, every=HOUR, key="7")
        assert await engine.load_schedules() == []
        await engine.declare(Queue("llm", concurrency=1))
        await engine.schedule("s", slow, 1, every=HOUR, queue="llm", key="7")
        await durable.advance(2 * HOUR)
        one = await engine.load("s@2026-03-02T13:00:00Z")
        assert (one.queue, one.queue_key, one.status) == ("llm", "7", ExecutionStatus.COMPLETED)


async def test_a_queue_that_is_gone_stops_its_schedule_and_no_other(file: Path) -> None:
    clock = ManualClock(MONDAY)
    async with working(file, clock) as (_, engine):
        await engine.declare(Queue("llm"))
        await engine.schedule("bad", report, "a", every=HOUR, queue="llm")
        await engine.schedule("good", report, "b", every=HOUR)
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("update workflow_schedules set queue = 'lml' where queue = 'llm'")
        await clock.advance(HOUR)
        await until(lambda: ran)
        assert ran == ["b 03-02 13:00"]

        async def is_told() -> bool:
            return "did you mean 'llm'" in ((await engine.load_schedule("bad")).trouble or "")

        await until(is_told)
        with pytest.raises(QueueNotFoundError):
            await engine.resume_schedule("bad")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("update workflow_schedules set queue = 'llm' where queue = 'lml'")
        assert await engine.resume_schedule("bad")


# Machines and clocks


async def test_a_machine_that_slept_for_78_minutes_does_not_replay_every_tick() -> None:
    async with AsyncSandbox([report], start_at=MONDAY) as durable:
        await durable.engine.schedule("s", report, "a", cron="* * * * *", overlap="all")
        await durable.advance(2 * MINUTE)
        durable.clock.set(MONDAY + 80 * MINUTE + timedelta(seconds=10))
        await durable.advance(2 * MINUTE)
        assert await fired(durable.store) == [
            "03-02T12:01",
            "03-02T12:02",
            "03-02T13:20",
            "03-02T13:21",
            "03-02T13:22",
        ]
        found = await durable.engine.load_schedule("s")
        assert found.last_skipped_at == MONDAY + 79 * MINUTE


@pytest.mark.parametrize(
    ("missed", "within", "expected"),
    [
        ("skip", None, []),
        ("last", None, ["15:00"]),
        ("last", 90 * MINUTE, ["15:00"]),
        ("last", 20 * MINUTE, []),
        ("all", None, ["13:00", "14:00", "15:00"]),
        ("all", 90 * MINUTE, ["15:00"]),
        ("all", 91 * MINUTE, ["14:00", "15:00"]),
    ],
)
async def test_which_of_the_times_are_fired_that_were_missed(
    file: Path, missed: Any, within: timedelta | None, expected: list[str]
) -> None:
    clock = ManualClock(MONDAY)
    async with working(file, clock) as (_, engine):
        await engine.schedule(
            "s", report, "a", cron="0 * * * *", overlap="all", missed=missed, within=within
        )
    clock.set(MONDAY + 3 * HOUR + 31 * MINUTE)
    async with working(file, clock) as (store, engine):

        async def is_computed() -> bool:
            found = await engine.load_schedule("s")
            return found.next_fire_at == MONDAY + 4 * HOUR

        await until(is_computed)
        assert await fired(store) == [f"03-02T{one}" for one in expected]


@pytest.mark.campaign
async def test_of_thousands_of_missed_times_the_last_1000_are_fired(file: Path) -> None:
    clock = ManualClock(MONDAY)
    async with SqliteCheckpointStore.file(file) as store:
        client = Client(store, clock=clock)
        await client.schedule("s", report, "a", cron="* * * * *", overlap="all", missed="all")
    clock.set(MONDAY + 400 * DAY)
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, clock=clock) as engine:

            async def is_computed() -> bool:
                found = await engine.load_schedule("s")
                return found.next_fire_at == MONDAY + 400 * DAY + MINUTE

            await until(is_computed)
        found = await store.load_executions_by_status(ExecutionStatus)
        assert len(found) == 1000
        last = MONDAY + 400 * DAY
        ids = {f"s@{last - n * MINUTE:%Y-%m-%dT%H:%M:%S}Z" for n in range(1000)}
        assert {one.workflow_execution_id for one in found} == ids


async def test_a_schedule_whose_clock_was_far_ahead_is_named_and_the_hint_of_doctor_corrects_it(
    file: Path,
) -> None:
    today = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
    clock = ManualClock(today)
    async with working(file, clock) as (_, engine):
        await engine.schedule("it's", report, "a", cron="0 * * * *")
        clock.set(today + 400 * DAY)

        async def was_ahead() -> bool:
            found = await engine.load_schedule("it's")
            return found.last_fired_at is not None and found.last_fired_at > today + 399 * DAY

        await until(was_ahead)
    clock.set(today)
    with open_reader(file) as reader:
        (named,) = (one for one in reader.check_up(datetime.now(UTC)) if one.check == "schedule")
    assert "which is still to come: a clock was ahead" in named.message
    async with working(file, clock) as (_, engine):
        before = (await engine.load_schedule("it's")).next_fire_at
        assert before is not None and before > today + 399 * DAY
        assert named.hint is not None
        with closing(sqlite3.connect(file, isolation_level=None)) as shell:
            shell.execute(named.hint.split("`")[1])

        async def is_computed() -> bool:
            found = await engine.load_schedule("it's")
            return found.next_fire_at == today + 30 * MINUTE

        await until(is_computed)


async def test_a_clock_that_is_set_back_fires_nothing_twice() -> None:
    async with AsyncSandbox([report], start_at=MONDAY) as durable:
        await durable.engine.schedule("s", report, "a", cron="0 * * * *")
        await durable.advance(HOUR + MINUTE)
        durable.clock.set(MONDAY + 30 * MINUTE)
        await durable.advance(HOUR)
        assert ran == ["a 03-02 13:00"]
        # Nor does a change of the schedule, which computes the next time anew.
        durable.clock.set(MONDAY)
        await durable.engine.schedule("s", report, "a", cron="0 * * * *", tz="Europe/Berlin")
        await durable.advance(HOUR + MINUTE)
        assert ran == ["a 03-02 13:00"]
        await durable.advance(HOUR)
        assert ran == ["a 03-02 13:00", "a 03-02 14:00"]


async def test_a_weekly_schedule_fires_though_its_workers_restart_daily(file: Path) -> None:
    clock = ManualClock(MONDAY)
    for _ in range(20):
        async with working(file, clock) as (_, engine):
            await engine.schedule("weekly", report, "a", every=7 * DAY)
            await clock.advance(DAY)
            await asyncio.sleep(0.02)
    assert ran == ["a 03-09 12:00", "a 03-16 12:00"]


async def test_workers_that_were_away_fire_when_they_are_back(file: Path) -> None:
    clock = ManualClock(MONDAY)
    async with working(file, clock) as (_, engine):
        await engine.schedule("weekly", report, "a", cron="0 13 * * MON")
    clock.set(MONDAY + 2 * HOUR)
    async with working(file, clock) as (_, engine):
        await until(lambda: ran)
        assert await engine.next_times("weekly", 1) == [MONDAY + 7 * DAY + HOUR]
    assert ran == ["a 03-02 14:00"]


# Overlap


async def overlapping(overlap: Any) -> list[str]:
    """Every ten minutes, for 35 minutes, what takes 25."""
    async with AsyncSandbox([slow], start_at=MONDAY) as durable:
        await durable.engine.schedule("s", slow, 25, every=10 * MINUTE, overlap=overlap)
        await durable.advance(45 * MINUTE)
        return list(ran)


async def test_overlap_skip() -> None:
    assert await overlapping("skip") == ["begin 12:10", "end 12:35", "begin 12:40"]


async def test_overlap_buffer_one() -> None:
    assert await overlapping("buffer_one") == ["begin 12:10", "end 12:35", "begin 12:35"]


async def test_overlap_cancel_other() -> None:
    begun = [f"begin 12:{minute}" for minute in (10, 20, 30, 40)]
    assert await overlapping("cancel_other") == begun


async def test_what_has_ended_by_itself_is_not_cancelled_and_nobody_is_warned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @workflow
    async def quick(ctx: WorkflowContext) -> None: ...

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        await engine.run(quick, execution_id="one")
        assert engine._open_engine is not None
        await engine._open_engine.schedules._cancel("one", "schedule s")
        assert (await engine.load("one")).status is ExecutionStatus.COMPLETED
    assert not [one for one in caplog.records if one.levelname == "WARNING"]


async def test_overlap_all() -> None:
    assert await overlapping("all") == [
        "begin 12:10",
        "begin 12:20",
        "begin 12:30",
        "end 12:35",
        "begin 12:40",
        "end 12:45",
    ]


async def test_a_retry_of_an_old_execution_counts_as_unfinished() -> None:

    async def fail_once() -> None:
        ran.append("attempt")
        if len(ran) == 1:
            raise ConnectionError("not yet")

    @workflow
    async def fails_once(ctx: WorkflowContext) -> None:
        await ctx.step("fail once", fail_once)
        await ctx.sleep("long", 3 * HOUR)

    async with AsyncSandbox([fails_once], start_at=MONDAY) as durable:
        await durable.engine.schedule("s", fails_once, cron="0 * * * *")
        await durable.advance(90 * MINUTE)
        await durable.engine.retry("s@2026-03-02T13:00:00Z")
        await durable.advance(2 * HOUR)
        assert await fired(durable.store) == ["03-02T13:00"]
        await durable.advance(2 * HOUR)
        assert await fired(durable.store) == ["03-02T13:00", "03-02T17:00"]


async def test_what_is_buffered_begins_when_another_process_ends_the_one_before(
    file: Path,
) -> None:
    """And also if the execution before is deleted, or cancelled without a worker."""
    clock = ManualClock(MONDAY)
    async with SqliteCheckpointStore.file(file) as store:
        async with DurableEngine(store, clock=clock) as engine:  # it runs none of them
            await engine.schedule("s", slow, 1, every=HOUR, overlap="buffer_one")
            await clock.advance(2 * HOUR)

            async def is_buffered() -> bool:
                return (await engine.load_schedule("s")).buffered_at is not None

            await until(is_buffered)
            assert await fired(store) == ["03-02T13:00"]
            async with SqliteCheckpointStore.file(file) as elsewhere:
                await Client(elsewhere, clock=clock).cancel("s@2026-03-02T13:00:00Z")

            async def is_fired() -> bool:
                return len(await fired(store)) == 2

            await until(is_fired)
            assert await fired(store) == ["03-02T13:00", "03-02T14:00"]
            assert not await is_buffered()


# People


async def test_a_trigger_starts_one_now_and_leaves_the_times_alone() -> None:
    async with AsyncSandbox([report], start_at=MONDAY) as durable:
        engine = durable.engine
        await engine.schedule("s", report, "a", every=HOUR, jitter=HOUR)
        await engine.pause_schedule("s", by="kim")
        handles = [await engine.trigger("s", by="kim") for _ in range(2)]
        assert [one.execution_id for one in handles] == [
            "s@2026-03-02T12:00:00Z",
            "s@2026-03-02T12:00:00.000001Z",
        ]
        await durable.advance(MINUTE)
        assert ran == ["a 03-02 12:00"] * 2
        (entry,) = await durable.store.load_audit_log(handles[0].execution_id)
        assert (entry.act, entry.actor) == ("trigger", "kim")
        found = await engine.load_schedule("s")
        assert (found.last_fired_at, found.last_execution_id) == (None, handles[1].execution_id)


async def test_a_backfill_starts_what_is_missing() -> None:
    async with AsyncSandbox([report], start_at=MONDAY) as durable:
        engine = durable.engine
        await engine.schedule("s", report, "a", cron="0 * * * *")
        await durable.advance(HOUR)
        ids = await engine.backfill("s", MONDAY - 2 * HOUR, MONDAY + HOUR, by="kim")
        assert [one[13:18] for one in ids] == ["10:00", "11:00", "12:00"]
        assert await engine.backfill("s", MONDAY - 2 * HOUR, MONDAY + HOUR) == []
        await durable.advance(MINUTE)
        assert len(ran) == 4
        (entry,) = await durable.store.load_audit_log(ids[0])
        assert (entry.act, entry.actor) == ("backfill", "kim")
        for start, end, says in (
            (MONDAY, MONDAY - HOUR, "before start"),
            (MONDAY, MONDAY + DAY, "in the future"),
            (MONDAY - 90 * DAY, MONDAY, "more than 1000 times"),
            (datetime(2026, 3, 1), MONDAY, "time zone"),  # noqa: DTZ001
            (MONDAY, datetime(2026, 3, 1), "time zone"),  # noqa: DTZ001
        ):
            with pytest.raises(ValueError, match=says):
                await engine.backfill("s", start, end)
        assert len(await fired(durable.store)) == 4


async def test_who_edits_the_row_is_heard(file: Path) -> None:
    clock = ManualClock(MONDAY)
    async with working(file, clock) as (store, engine):
        await engine.schedule("s", report, "a", cron="0 3 * * *")

        async def edit(sql: str, next_at: datetime | None, trouble: str | None = None) -> None:
            with closing(sqlite3.connect(file, isolation_level=None)) as connection:
                connection.execute(sql)

            async def is_heard() -> bool:
                found = await engine.load_schedule("s")
                says = found.trouble or ""
                return found.next_fire_at == next_at and (trouble or "") in says

            await until(is_heard)

        await edit("update workflow_schedules set cron = '0 15 * * *'", at("03-02 15:00"))
        await edit("update workflow_schedules set tz = 'Europe/Berlin'", at("03-02 14:00"))
        await edit("update workflow_schedules set cron = '0 0 30 2 *'", None, "no month")
        await edit("update workflow_schedules set cron = '0 16 * * *'", at("03-02 15:00"))
        await edit("update workflow_schedules set tz = 'Nowhere'", None, "time zone")
        await edit(
            "update workflow_schedules set cron = null, every_seconds = 7200, tz = 'UTC'",
            at("03-02 14:00"),
        )
        paused = "2026-03-02T12:00:00.000000Z"
        await edit(f"update workflow_schedules set paused_at = '{paused}'", at("03-02 14:00"))
        await clock.advance(3 * HOUR)
        await asyncio.sleep(0.6)
        assert ran == []
        await edit("update workflow_schedules set paused_at = null", at("03-02 16:00"))
        fires = "2026-03-02T15:30:00.000000Z"
        await edit(f"update workflow_schedules set next_fire_at = '{fires}'", at("03-02 15:30"))
        await clock.advance(HOUR - MINUTE)
        await until(lambda: ran)
        assert await fired(store) == ["03-02T15:30"]
        await edit("delete from workflow_schedules where 0", at("03-02 16:00"))
        # The same declaration does not undo what was edited.
        await engine.schedule("s", report, "a", cron="0 3 * * *")
        assert (await engine.load_schedule("s")).every_seconds == 7200


async def test_a_row_that_was_written_by_hand_fires(file: Path) -> None:
    clock = ManualClock(MONDAY)
    async with working(file, clock) as (_, engine):
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute(
                "insert into workflow_schedules (schedule_name, workflow_type, input_data, cron)"
                """ values ('by hand', 'report', '["x"]', '0 13 * * *')"""
            )

        async def is_computed() -> bool:
            return (await engine.load_schedule("by hand")).next_fire_at == MONDAY + HOUR

        await until(is_computed)
        await clock.advance(HOUR)
        await until(lambda: ran)
    assert ran == ["x 03-02 13:00"]


async def test_a_schedule_in_trouble_does_not_stop_the_others(file: Path) -> None:
    clock = ManualClock(MONDAY)
    async with working(file, clock) as (_, engine):
        await engine.schedule("bad", report, "a", cron="0 13 * * *")
        await engine.schedule("good", report, "b", cron="0 13 * * *")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute(
                """update workflow_schedules set tags = '{"a": 1}' where schedule_name = 'bad'"""
            )
        await clock.advance(HOUR)
        await until(lambda: ran)

        async def is_told() -> bool:
            return (await engine.load_schedule("bad")).trouble is not None

        await until(is_told)
        assert ran == ["b 03-02 13:00"]
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("update workflow_schedules set tags = '{}'")
        assert await engine.resume_schedule("bad")
        assert (await engine.load_schedule("bad")).next_fire_at == MONDAY + DAY + HOUR


async def test_a_client_in_another_process_declares_what_a_worker_fires(file: Path) -> None:
    clock = ManualClock(MONDAY)
    async with working(file, clock) as (_, engine), SqliteCheckpointStore.file(file) as elsewhere:
        await Client(elsewhere, clock=clock).schedule("s", report, "a", every=HOUR)
        await asyncio.sleep(1)  # it is noticed within half a second
        await clock.advance(HOUR)
        await until(lambda: ran)
        assert await engine.unschedule("s")


@pytest.mark.campaign
async def test_many_workers_fire_each_time_once(file: Path) -> None:
    clock = ManualClock(MONDAY)
    stores = [SqliteCheckpointStore.file(file) for _ in range(8)]
    engines = [DurableEngine(one, workflows=[report], clock=clock) for one in stores]
    for engine in engines:
        await engine.open()
    declared = [one.schedule("s", report, "a", every=MINUTE, overlap="all") for one in engines]
    assert len({one.created_at for one in await asyncio.gather(*declared)}) == 1
    for minute in range(1, 21):
        await clock.advance(MINUTE)
        await until(lambda number=minute: len(ran) >= number)
    assert sorted(ran) == [f"a 03-02 12:{minute:02}" for minute in range(1, 21)]
    for engine, store in zip(engines, stores, strict=True):
        await engine.dispose()
        await store.close()
