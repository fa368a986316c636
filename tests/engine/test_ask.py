"""`ctx.ask`: one answer counts, it is of the type, and a replay gets the same one."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest

from durable_workflow_sqlite import (
    Client,
    DurableEngine,
    Escalation,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    PayloadTooLargeError,
    Question,
    QuestionAnsweredError,
    QuestionNotFoundError,
    QuestionOverdueError,
    SerializationError,
    SignalStatus,
    SignalTimeoutError,
    SqliteCheckpointStore,
    StepStatus,
    TimerStatus,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowSignal,
    workflow,
)
from durable_workflow_sqlite.testing import ManualClock
from tests.processes import until

DAY = timedelta(days=1)


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclasses.dataclass
class Approval:
    ok: bool
    limit: int
    size: Size = Size.SMALL
    note: str | None = None


@workflow
async def approve(ctx: WorkflowContext, amount: int) -> str:
    answer = await ctx.ask(
        "approve", "May we pay?", type=Approval, to="finance", details={"amount": amount}
    )
    return f"{answer.ok} {answer.limit} {answer.size.name} {answer.note}"


async def asked(client: Client, execution_id: str = "one", count: int = 1) -> list[Question]:
    """The open questions of an execution, once there are so many."""
    found: list[Question] = []

    async def look() -> bool:
        found[:] = await client.questions(execution_id=execution_id)
        return len(found) == count

    await until(look)
    return found


async def acts(store: Any, execution_id: str = "one") -> list[tuple[str, str]]:
    return [(one.act, one.actor) for one in await store.load_audit_log(execution_id)]


async def test_a_question_is_listed_and_its_answer_comes_as_its_type() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(approve, 700, execution_id="one")
        (question,) = await asked(engine)
        assert question.name == "approve"
        assert question.question == "May we pay?"
        assert question.details == {"amount": 700}
        assert (question.to, question.workflow_type) == ("finance", "approve")
        assert question.type == "Approval"
        assert question.deadline is None
        assert question.asked_at is not None
        assert question.schema["$ref"] == "#/$defs/Approval"
        assert await engine.questions(to="finance") == [question]
        assert await engine.questions(to="legal") == []
        assert await engine.questions() == [question]
        given = await engine.answer("one", "approve", {"ok": True, "limit": 9}, by="kim")
        assert given.signal_name == question.signal_name
        assert await handle.result() == "True 9 SMALL None"
        assert await engine.questions() == []
        assert await acts(store) == [("answer", "kim")]
        (entry,) = await store.load_audit_log("one")
        assert '"question":"approve"' in (entry.details or "")
        assert '"answer":{"ok":true,"limit":9}' in (entry.details or "")
        (wait,) = await store.load_checkpoints("one")
        assert wait.output_data == '{"ok":true,"limit":9}'
        assert "May we pay?" in (wait.input_data or "")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"ok": True}, "the answer.limit is missing"),
        ({"ok": "yes", "limit": 1}, "the answer.ok must be true or false"),
        ({"ok": True, "limit": 1.5}, "the answer.limit must be a whole number"),
        ({"ok": True, "limit": 1, "size": "huge"}, 'the answer.size must be one of "large"'),
        ({"ok": True, "limit": 1, "note": 7}, "the answer.note"),
        (True, "the answer must be an object, not true"),
        (None, "the answer must be an object, not null"),
        ([], "the answer must be an object"),
    ],
)
@pytest.mark.parametrize("is_beside", [True, False])
async def test_an_answer_of_another_type_is_refused_at_the_call(
    value: object, says: str, *, is_beside: bool
) -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        await engine.start(approve, 700, execution_id="one")
        await asked(engine)
        client = engine if is_beside else Client(store)
        with pytest.raises(SerializationError) as refusal:
            await client.answer("one", "approve", value)
        assert says in str(refusal.value)
        assert await store.load_signals("one") == []
        assert await acts(store) == []
        assert len(await engine.questions()) == 1


async def test_an_answer_inserted_by_sql_that_does_not_fit_is_refused_and_the_question_stays() -> (
    None
):
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(approve, 700, execution_id="one")
        (question,) = await asked(engine)

        async def insert(payload: str) -> None:
            signal = WorkflowSignal(
                workflow_execution_id="one", signal_name=question.signal_name, payload=payload
            )
            await store.save(signal)

        await insert('{"ok": 1}')
        await until(lambda: has(store, SignalStatus.REFUSED))
        assert [one.is_answered for one in await engine.questions()] == [False]
        await insert('{"ok": false, "limit": 3}')
        assert await handle.result() == "False 3 SMALL None"
        assert await acts(store) == [("answer", "an insert by SQL")]


async def has(store: Any, status: SignalStatus) -> bool:
    return status in [one.status for one in await store.load_signals("one")]


async def test_of_sixteen_answers_at_once_one_counts_and_the_others_are_told_whose() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(approve, 700, execution_id="one")
        await asked(engine)

        async def give(number: int) -> str:
            try:
                await engine.answer(
                    "one", "approve", {"ok": True, "limit": number}, by=f"person {number}"
                )
            except QuestionAnsweredError as error:
                assert error.answered_at is not None
                return str(error.answered_by)
            return "counts"

        said = await asyncio.gather(*map(give, range(16)))
        assert said.count("counts") == 1
        first = said.index("counts")
        assert set(said) == {"counts", f"person {first}"}
        assert await handle.result() == f"True {first} SMALL None"
        assert len(await store.load_signals("one")) == 1
        assert await acts(store) == [("answer", f"person {first}")]
        with pytest.raises(QuestionAnsweredError, match=f"by person {first} at"):
            await engine.answer("one", "approve", {"ok": True, "limit": 1})


@workflow
async def asks_in_branches(ctx: WorkflowContext) -> list[str]:
    async def one(key: str) -> str:
        return await ctx.branch(key).ask("who", f"Who is {key}?", type=str)

    return await asyncio.gather(one("a"), one("b"))


async def test_questions_of_one_name_in_two_branches_do_not_swap_answers() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(asks_in_branches, execution_id="one")
        found = {one.branch: one for one in await asked(engine, count=2)}
        with pytest.raises(QuestionNotFoundError, match="asks 2 questions 'who' now"):
            await engine.answer("one", "who", "?")
        await engine.answer("one", found["b"].signal_name, "bo")
        await engine.answer("one", found["a"].signal_name, "al")
        assert await handle.result() == ["al", "bo"]


async def test_what_cannot_be_answered() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(approve, 700, execution_id="one")
        await asked(engine)
        with pytest.raises(QuestionNotFoundError, match="asks no question 'other' now; it asks"):
            await engine.answer("one", "other", 1)
        with pytest.raises(ExecutionNotFoundError):
            await engine.answer("two", "approve", 1)
        with pytest.raises(ValueError, match="must not be empty"):
            await engine.answer("one", "", 1)
        with pytest.raises(ValueError, match="by must not be empty"):
            await engine.answer("one", "approve", 1, by="")
        with pytest.raises(SerializationError, match="cannot be written as JSON"):
            await engine.answer("one", "approve", object())
        with pytest.raises(PayloadTooLargeError):
            await engine.answer("one", "approve", "x" * (store.max_payload_bytes + 1))
        with pytest.raises(ValueError, match="limit must be at least 1"):
            await engine.questions(limit=0)
        assert await store.load_signals("one") == []
        await handle.cancel()
        await until(lambda: ended(engine))
        with pytest.raises(ExecutionFinishedError):
            await engine.answer("one", "approve", {"ok": True, "limit": 1})
        assert await engine.questions() == []


async def ended(engine: DurableEngine) -> bool:
    return (await engine.load("one")).status.is_terminal


@workflow
async def with_deadline(ctx: WorkflowContext, how: str) -> str:
    overdue: Any = "raise"
    if how == "value":
        overdue = Approval(False, 0, note="late")
    elif how == "escalate":
        overdue = Escalation("boss", DAY, Escalation("board"))
    elif how == "escalate to nobody":
        overdue = Escalation("boss", DAY)
    try:
        answer = await ctx.ask(
            "approve", "May we pay?", type=Approval, to="finance", deadline=DAY, overdue=overdue
        )
    except QuestionOverdueError as error:
        assert isinstance(error, SignalTimeoutError)
        assert error.deadline is not None
        assert error.step_index == (0 if error.to == "finance" else 1)
        raise ValueError(f"nobody of {error.to} answered {error.question!r}") from error
    return f"{answer.ok} {answer.limit} {answer.note}"


async def test_at_the_deadline_it_raises() -> None:
    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(with_deadline, "raise", execution_id="one")
        (question,) = await asked(engine)
        assert question.deadline == clock.now() + DAY
        await clock.advance(DAY)
        with pytest.raises(WorkflowFailedError, match="nobody of finance answered 'approve'"):
            await handle.result()
        with pytest.raises(ExecutionFinishedError):
            await engine.answer("one", "approve", {"ok": True, "limit": 1})


async def test_at_the_deadline_a_value_is_the_answer() -> None:
    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(with_deadline, "value", execution_id="one")
        await asked(engine)
        await clock.advance(DAY)
        assert await handle.result() == "False 0 late"
        (wait,) = await store.load_checkpoints("one")
        assert (wait.status, wait.event) == (StepStatus.FAILED, 1)
        assert "nobody of finance answered question 'approve'" in (wait.error_message or "")


@pytest.mark.parametrize("after_days", [1, 2])
async def test_an_escalation_asks_the_next_one(after_days: int) -> None:
    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(with_deadline, "escalate", execution_id="one")
        receivers = ["finance", "boss", "board"][: after_days + 1]
        names = set()
        for number, receiver in enumerate(receivers):
            await until(lambda to=receiver: engine.questions(to=to))
            (question,) = await engine.questions(to=receiver)
            names.add(question.signal_name)
            assert question.step_index == number
            if number < after_days:
                await clock.advance(DAY)
        await engine.answer("one", "approve", {"ok": True, "limit": after_days})
        assert await handle.result() == f"True {after_days} None"
        assert len(names) == after_days + 1
        timers = [one.status for one in await store.load_timers("one")]
        assert TimerStatus.PENDING not in timers


async def test_the_deadline_of_an_escalation_raises_too() -> None:
    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(with_deadline, "escalate to nobody", execution_id="one")
        await asked(engine)
        await clock.advance(DAY)
        await until(lambda: engine.questions(to="boss"))
        await clock.advance(DAY)
        with pytest.raises(WorkflowFailedError, match="nobody of boss answered"):
            await handle.result()


async def test_whoever_was_told_that_the_answer_is_stored_is_not_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer comes after the worker has looked, and before it has recorded the deadline."""
    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(with_deadline, "raise", execution_id="one")
        (question,) = await asked(engine)
        before, transact = clock.now(), store.transact
        assert question.deadline is not None

        async def answered_first(*args: Any, **options: Any) -> bool:
            monkeypatch.setattr(store, "transact", transact)
            late = WorkflowSignal(
                workflow_execution_id="one",
                signal_name=question.signal_name,
                payload='{"ok": true, "limit": 4}',
                signal_key="mine",
                created_at=before,
            )
            assert await store.answer_question(late) is not None
            return await transact(*args, **options)

        monkeypatch.setattr(store, "transact", answered_first)
        await clock.advance(DAY)
        assert await handle.result() == "True 4 None"
        (wait,) = await store.load_checkpoints("one")
        assert (wait.status, wait.event) == (StepStatus.COMPLETED, 1)
        assert [one.status for one in await store.load_signals("one")] == [SignalStatus.DELIVERED]


@pytest.mark.parametrize("how", ["answer", "value", "escalate"])
async def test_a_replay_gets_what_was_recorded(how: str) -> None:
    clock = ManualClock()
    results: list[str] = []

    @workflow(name="replayed")
    async def replayed(ctx: WorkflowContext) -> str:
        said = await with_deadline.function(ctx, how)
        results.append(said)
        await ctx.wait_signal("go")
        return said

    async with SqliteCheckpointStore.in_memory() as store, asyncio.timeout(20):
        async with DurableEngine(store, [replayed], clock=clock) as engine:
            await engine.start(replayed, execution_id="one")
            await asked(engine)
            if how == "answer":
                await engine.answer("one", "approve", {"ok": True, "limit": 5})
            else:
                await clock.advance(DAY)
            if how == "escalate":
                await until(lambda: engine.questions(to="boss"))
        if how == "escalate":
            await Client(store, clock=clock).answer("one", "approve", {"ok": True, "limit": 6})
        async with DurableEngine(store, [replayed], clock=clock) as engine:
            await until(lambda: store.load_open_waits("one", "go"))
            await engine.send_signal("one", "go")
            result = await engine.handle("one").result()
    assert set(results) == {result}
    assert result == {"answer": "True 5 None", "value": "False 0 late"}.get(how, "True 6 None")


@workflow
async def first_of_three(ctx: WorkflowContext) -> list[str]:
    came = []
    for turn in range(3):
        question = ctx.question("go on", "Shall it go on?", type=bool, to="ops")
        stop = ctx.signal("stop", type=str)
        night = ctx.timer(f"night {turn}", DAY)
        first = await ctx.wait_any(question, stop, night)
        if first is question:
            came.append(f"answered {question.value}")
        elif first is stop:
            came.append(stop.value)
        else:
            came.append("night")
    return came


async def test_wait_any_takes_a_question_too() -> None:
    clock = ManualClock()
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store, clock=clock) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(first_of_three, execution_id="one")
        (first,) = await asked(engine)
        await engine.send_signal("one", "stop", "stopped")
        await until(lambda: is_new(engine, [first.signal_name]))
        second = await engine.answer("one", "go on", value=True)
        await until(lambda: is_new(engine, [first.signal_name, second.signal_name]))
        await until(lambda: store.load_open_waits("one", "stop"))
        await clock.advance(DAY)
        assert await handle.result() == ["stopped", "answered True", "night"]
        assert await engine.questions() == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": ""}, ValueError),
        ({"name": "$x"}, ValueError),
        ({"name": "x" * 121}, ValueError),
        ({"name": 7}, TypeError),
        ({"question": ""}, ValueError),
        ({"question": None}, TypeError),
        ({"to": ""}, ValueError),
        ({"to": 7}, TypeError),
        ({"details": object()}, SerializationError),
        ({"details": "x" * 20_000_000}, PayloadTooLargeError),
        ({"type": complex | int}, SerializationError),
        ({"deadline": 7}, TypeError),
        ({"deadline": -DAY}, ValueError),
        ({"deadline": datetime(2030, 1, 1)}, ValueError),  # noqa: DTZ001
        ({"overdue": 7}, ValueError),
        ({"overdue": Escalation("boss")}, ValueError),
        ({"overdue": "seven", "type": int, "deadline": DAY}, SerializationError),
        ({"overdue": Escalation(""), "deadline": DAY}, ValueError),
        ({"overdue": Escalation("boss", overdue=7), "deadline": DAY}, ValueError),
    ],
)
async def test_bad_arguments_are_refused_at_the_call(
    options: dict[str, Any], error: type[Exception]
) -> None:
    @workflow(name="wrong")
    async def wrong(ctx: WorkflowContext) -> str:
        with pytest.raises(error):
            ctx.ask(**{"name": "n", "question": "?", **options})
        return str(await ctx.ask("right", "And now?", type=Literal["a", "b"]))

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(wrong, execution_id="one")
        (question,) = await asked(engine)
        assert (question.name, question.step_index, question.to) == ("right", 0, None)
        with pytest.raises(SerializationError, match='must be one of "a", "b"'):
            await engine.answer("one", "right", "c")
        await engine.answer("one", "right", "b")
        assert await handle.result() == "b"


async def test_plain_data_needs_no_type() -> None:
    @workflow(name="plain")
    async def plain(ctx: WorkflowContext) -> Any:
        return await ctx.ask("what", "What is it?", overdue="raise")

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(plain, execution_id="one")
        (question,) = await asked(engine)
        assert (question.type, question.schema) == ("Any", {})
        await Client(store).answer("one", "what", {"a": [1, None]})
        assert await handle.result() == {"a": [1, None]}


async def test_a_long_or_strange_branch_and_name() -> None:
    name, branch = "a@1.0:b%" + "n" * 100, "x" * 300 + "\n"

    @workflow(name="strange")
    async def strange(ctx: WorkflowContext) -> list[bool]:
        there = ctx.branch(branch)
        return [await there.ask(name, "?", type=bool), await there.ask(name, "?", type=bool)]

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(strange, execution_id="one")
        for value in (True, False):
            (question,) = await asked(engine)
            assert (question.name, question.branch) == (name, branch)
            await engine.answer("one", question.signal_name, value)
            await until(lambda seen=question: is_gone(engine, seen))
        assert await handle.result() == [True, False]


async def is_gone(engine: DurableEngine, question: Question) -> bool:
    open_ones = await engine.questions()
    return question.signal_name not in [one.signal_name for one in open_ones]


async def test_each_run_that_continues_as_new_asks_anew() -> None:
    @workflow(name="again")
    async def again(ctx: WorkflowContext, turns: int) -> int:
        if not await ctx.ask("more", "One more?", type=bool):
            return turns
        return ctx.continue_as_new(turns + 1)

    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(again, 0, execution_id="one")
        names = []
        for more in (True, True, False):
            await until(lambda: is_new(engine, names))
            (question,) = await engine.questions()
            names.append(question.signal_name)
            await engine.answer("one", question.signal_name, more)
        assert await handle.result() == 2
        assert len(set(names)) == 3
        assert await acts(store) == [("answer", a) for _, a in await acts(store)]
        assert len(await acts(store)) == 3


async def is_new(engine: DurableEngine, names: list[str]) -> bool:
    found = await engine.questions()
    return bool(found) and found[0].signal_name not in names and not found[0].is_answered


async def test_a_cancelled_execution_asks_no_more() -> None:
    async with (
        SqliteCheckpointStore.in_memory() as store,
        DurableEngine(store) as engine,
        asyncio.timeout(20),
    ):
        handle = await engine.start(approve, 700, execution_id="one")
        await asked(engine)
        await handle.cancel()
        await until(lambda: ended(engine))
        assert (await engine.load("one")).status is ExecutionStatus.CANCELLED
        assert await engine.questions() == []
