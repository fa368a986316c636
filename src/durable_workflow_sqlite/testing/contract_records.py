"""The store contract: what is saved comes back, in order, all or nothing, and final things stay."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from time import sleep
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ClaimLostError,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    NewExecution,
    Progress,
    Record,
    SerializationError,
    SignalStatus,
    StepCheckpoint,
    StepKind,
    StepStatus,
    StoreError,
    StreamItems,
    TakenExecution,
    TimerStatus,
    TransactionTimeoutError,
    Workflow,
    WorkflowPatch,
    WorkflowSignal,
)
from durable_workflow_sqlite.records import CANCEL_SIGNAL
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    ORDER,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    checkpoint_with_everything,
    claimed,
    claimed_ids,
    created,
    execution_with_everything,
    is_refused_everything,
    loaded,
    new_audit_entry,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    nothing_belongs_to,
    over_a_store,
    over_workers,
    queued,
    send,
    taken,
    without_ids,
)

WAYS_TO_END: list[tuple[StepStatus, dict[str, Any]]] = [
    (StepStatus.COMPLETED, {"event": 3, "output_data": "1"}),
    (StepStatus.COMPLETED, {"event": 1, "output_data": "null"}),
    (StepStatus.COMPENSATED, {}),
    (StepStatus.FAILED, {"event": 2, "error_type": "a:B", "error_message": "it broke"}),
    (StepStatus.FAILED, {"error_type": "a:B", "error_message": "it broke", "due_at": NOON}),
]


class RecordsContract(StoreContract):
    """Records and what becomes of them."""

    # What is saved comes back

    @over_a_store
    async def test_what_is_saved_comes_back(self, store: CheckpointStore) -> None:
        workflow = Workflow(workflow_id="x", workflow_type="pay", version=7, created_at=NOON)
        executions = [execution_with_everything("a"), new_execution("b")]
        checkpoints = [checkpoint_with_everything("a", 0), new_checkpoint("a", 1)]
        timer = new_timer("a", "t", NOON)
        records: list[Record] = [workflow, *executions, *checkpoints, timer]
        for record in records:
            await store.save(record)
        signal = WorkflowSignal(
            workflow_execution_id="a", signal_name="go", payload='{"a": [1]}', created_at=NOON
        )
        sent = await send(store, signal)
        assert await store.load_workflow("x") == workflow
        for execution in executions:
            assert await loaded(store, execution.workflow_execution_id) == execution
        assert without_ids(await store.load_checkpoints("a")) == checkpoints
        assert (await taken(store, "a")).pending_timers == [timer]
        assert sent.workflow_signal_id is not None
        assert sent == msgspec.structs.replace(signal, workflow_signal_id=sent.workflow_signal_id)
        assert await store.load_pending_signals("a") == [sent]

    @over_a_store
    async def test_items_of_streams_come_in_the_order_in_which_they_were_written(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("other"))
        claim = await created(store, new_execution("e"))

        def put(index: int, *items: str, attempt: int = 1, **more: Any) -> StreamItems:
            return StreamItems(
                workflow_execution_id="e",
                step_index=index,
                step_name=f"say {index}",
                attempt=attempt,
                items=items,
                created_at=NOON,
                written_under=claim.fencing_token,
                **more,
            )

        written = [
            put(1, '"é"'),
            put(0, "[1, null]"),
            put(1, '"é\\u0000\\""'),
            put(1, "{}", attempt=2),
            put(0, "2", branch="left", run_number=3),
        ]
        await store.save(*written[:3], claim=claim)
        await store.save(new_checkpoint("e", 0), *written[3:], claim=claim)
        found = await store.load_stream_items("e")
        ids = [one.workflow_stream_item_id for one in found]
        assert ids == sorted(set(ids))
        assert [
            StreamItems(
                workflow_execution_id=one.workflow_execution_id,
                step_index=one.step_index,
                step_name=one.step_name,
                attempt=one.attempt,
                items=(one.item,),
                created_at=one.created_at,
                written_under=one.written_under,
                branch=one.branch,
                run_number=one.run_number,
            )
            for one in found
        ] == written
        assert await store.load_stream_items("e", ids[1], 2) == found[2:4]
        assert await store.load_stream_items("e", ids[-1]) == []
        assert await store.load_stream_items("other") == []
        heads = await store.load_stream_heads("e", ids[2])
        assert sorted(one.workflow_stream_item_id for one in heads) == ids[1:3]
        assert len(await store.load_stream_heads("e", ids[4])) == 3
        assert await store.load_stream_heads("e", 0) == []
        many = [f"[{number}]" for number in range(1200)]
        await store.save(put(2, *many[:600]), put(2, *many[600:]), claim=claim)
        found = await store.load_stream_items("e", ids[-1], 2000)
        assert [one.item for one in found] == many
        last = [one.workflow_stream_item_id for one in found]
        assert last == sorted(set(last))

    @over_a_store
    async def test_the_newest_progress_of_each_place_is_kept(self, store: CheckpointStore) -> None:
        await store.save(new_execution("other"))
        claim = await created(store, new_execution("e"))
        step: dict[str, Any] = {"step_index": 0, "step_name": "copy", "reported_at": NOON}

        def report(done: float, **more: Any) -> Progress:
            return Progress(workflow_execution_id="e", done=done, **more)

        whole = report(1, total=4, note="é\n'", reported_at=NOON)
        await store.save(report(0), report(1, **step, attempt=1), whole, claim=claim)
        left = report(0.5, branch="left", reported_at=NOON)
        await store.save(new_checkpoint("e", 0), new_checkpoint("e", 0, attempt=2), claim=claim)
        assert await store.load_progress("e") == [whole]
        second = report(10**15, **step, attempt=2, total=1e-9)
        await store.save(new_checkpoint("e", 5), second, left, claim=claim)
        assert await store.load_progress("e") == [whole, second, left]
        assert [one.fraction for one in (whole, second, left)] == [0.25, 1.0, None]
        assert await store.load_progress("other") == []
        lost = msgspec.structs.replace(claim, fencing_token=claim.fencing_token + 1)
        with pytest.raises(ClaimLostError):
            await store.save(report(3), claim=lost)
        assert (await store.load_progress("e"))[0] == whole

    @over_a_store
    async def test_the_last_attempts_of_a_step_say_whether_it_is_over(
        self, store: CheckpointStore
    ) -> None:
        await store.save(
            new_execution("e"),
            new_checkpoint("e", 0, name="say", status=StepStatus.COMPLETED, event=1),
            new_checkpoint("e", 1, name="say", status=StepStatus.FAILED),
            new_checkpoint("e", 1, name="say", attempt=2),
            new_checkpoint("e", 2, name="other"),
        )
        assert await store.load_stream_ends("e", "say") == [
            ("", 0, StepStatus.COMPLETED, True),
            ("", 1, StepStatus.INTENT, False),
        ]
        assert await store.load_stream_ends("e", "unknown") == []

    @over_a_store
    async def test_a_patch_that_is_saved_twice_stays_as_it_was(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("other"))
        claim = await created(store, new_execution("e"))
        late = NOON + MINUTE
        passed = [
            WorkflowPatch(
                workflow_execution_id="e", branch=branch, patch_name=name, event=3, passed_at=NOON
            )
            for branch, name in (("", "a"), ("", "z"), ("left", "a"), ("left/é", "a"))
        ]
        assert (await taken(store, "e")).patches == []
        for one in reversed(passed):
            again = msgspec.structs.replace(one, event=4, passed_at=late)
            await store.begin_step(new_checkpoint("e", 1), one, claim=claim)
            await store.save(new_checkpoint("e", 1), again, again, claim=claim)
        assert (await taken(store, "e")).patches == passed
        assert (await taken(store, "other")).patches == []

    @over_a_store
    async def test_what_is_taken_is_recorded_or_pending(self, store: CheckpointStore) -> None:
        await store.save(
            new_execution("e"),
            new_execution("other"),
            new_timer("other", "theirs", NOON),
            new_checkpoint("e", 1),
            checkpoint_with_everything("e", 0),
        )
        elsewhere = NOON.astimezone(timezone(timedelta(hours=-8)))
        timers = [
            new_timer("e", "z", NOON - MINUTE),
            new_timer("e", "x", elsewhere),
            new_timer("e", "y", NOON + timedelta(microseconds=1)),
            new_timer("e", "a", NOON + 3 * MINUTE),
        ]
        over = [
            new_timer("e", status, NOON, status=status)
            for status in (TimerStatus.FIRED, TimerStatus.CANCELLED)
        ]
        for timer in reversed([*timers, *over]):
            await store.save(timer)
        await store.send_signal(new_signal("e", "go"))
        found = await taken(store, "e")
        assert found == TakenExecution(
            execution=await loaded(store, "e"),
            checkpoints=await store.load_checkpoints("e"),
            pending_timers=timers,
            is_to_cancel=False,
        )
        await store.send_signal(new_signal("e", CANCEL_SIGNAL))
        assert await taken(store, "e") == msgspec.structs.replace(found, is_to_cancel=True)

    @over_a_store
    async def test_what_is_unknown_is_none_or_an_empty_list(self, store: CheckpointStore) -> None:
        assert await store.load_workflow("unknown") is None
        assert await store.load_execution("unknown") is None
        assert await store.take_execution("unknown") is None
        for found in (
            await store.load_checkpoints("unknown"),
            await store.load_pending_signals("unknown"),
            await store.load_pending_signals("unknown", "go"),
            await store.load_signals("unknown"),
            await store.load_next_signals("unknown", ["go"]),
            await store.load_open_waits("unknown", "go"),
            await store.load_signals_after(0),
            await store.load_unqueued_executions(),
            await store.load_blocked(),
            await store.load_unregistered([], 9),
            await store.claim_available(ORDER, 10),
        ):
            assert found == []
        assert await store.load_last_signal_id() == 0
        assert await store.load_next_available_at(ORDER) is None

    @over_a_store
    async def test_times_keep_their_microseconds_and_become_utc(
        self, store: CheckpointStore
    ) -> None:
        in_india = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
        for index, time in enumerate((in_india, NOON.replace(microsecond=0), NOON + MINUTE / 7)):
            execution = new_execution(
                f"e{index}", ttl_expires_at=time, created_at=time, updated_at=time
            )
            await store.save(execution)
            kept = await loaded(store, f"e{index}")
            assert kept == execution
            for found in (kept.ttl_expires_at, kept.created_at, kept.updated_at):
                assert found is not None
                assert (found, found.utcoffset()) == (time, timedelta(0))

    @over_a_store
    async def test_text_keeps_every_character(self, store: CheckpointStore) -> None:
        said = "Grüße, 世界, \U0001f680, ﷽, e\u0301 and \u00e9, '\"\"', \\, :name, ?, %s, \r\n\t"
        text = msgspec.json.encode(said).decode()
        name = "héllo 世界 \U0001f680"
        await store.save(new_execution(name, input_data=text))
        assert await store.load_unregistered([], 9) == [name]
        assert (await loaded(store, name)).input_data == text

    @over_a_store
    async def test_a_payload_may_be_big(self, store: CheckpointStore) -> None:
        big = f'"{"0123456789é" * 300_000}"'
        await store.save(
            new_execution("e", input_data=big), new_checkpoint("e", 0, output_data=big)
        )
        found = await taken(store, "e")
        assert found.execution.input_data == big
        assert [one.output_data for one in found.checkpoints] == [big]

    @over_a_store
    async def test_no_data_and_null_and_empty_text_are_kept_apart(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"))
        kinds = [None, "null", '""']
        for index, data in enumerate(kinds):
            await store.save(
                new_execution(f"e{index}", input_data=data, output_data=data),
                new_checkpoint("e", index, output_data=data),
                new_signal("e", "go", payload=data),
            )
            execution = await loaded(store, f"e{index}")
            assert (execution.input_data, execution.output_data) == (data, data)
        assert [one.output_data for one in await store.load_checkpoints("e")] == kinds
        assert [one.payload for one in await store.load_pending_signals("e")] == kinds

    @over_a_store
    async def test_data_that_is_no_json_is_refused(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e"))
        for text in ("", "kim", "{", "[1, 2", "NaN"):
            for record in (
                new_execution("other", input_data=text),
                new_execution("other", output_data=text),
                new_checkpoint("e", 0, output_data=text),
                new_signal("e", "go", payload=text),
            ):
                with pytest.raises(SerializationError, match="json"):
                    await store.save(record)
            ended = new_checkpoint("e", 0, status=StepStatus.COMPLETED, output_data=text, event=1)
            with pytest.raises(SerializationError, match="json"):
                await store.finish_step(ended, claim=claim)
        assert await store.load_execution("other") is None
        await nothing_belongs_to(store, "e")

    # Saving again

    @over_a_store
    async def test_saving_under_the_same_key_updates(self, store: CheckpointStore) -> None:
        changed = Workflow(workflow_id="order:1", workflow_type="x", version=2, created_at=NOON)
        await store.save(changed)
        assert await store.load_workflow("order:1") == changed
        await store.save(new_execution("e"))
        for execution in (
            execution_with_everything("e", status=ExecutionStatus.SUSPENDED),
            new_execution("e", created_at=NOON, updated_at=NOON),
        ):
            await store.save(execution)
            assert await loaded(store, "e") == execution
        await store.save(new_timer("e", "t", NOON))
        await store.save(new_timer("e", "t", NOON + MINUTE))
        assert (await taken(store, "e")).pending_timers == [new_timer("e", "t", NOON + MINUTE)]
        signal = await send(store, new_signal("e", "go", created_at=NOON))
        again = msgspec.structs.replace(signal, payload="2")
        await store.save(again)
        assert await store.load_pending_signals("e") == [again]

    @over_a_store
    async def test_a_checkpoint_that_is_saved_again_keeps_its_id(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_checkpoint("e", 0), new_checkpoint("e", 1))
        before = await store.load_checkpoints("e")
        await store.save(*before)
        assert await store.load_checkpoints("e") == before
        changed = checkpoint_with_everything("e", 0)
        await store.save(changed)
        after = await store.load_checkpoints("e")
        assert without_ids(after) == [changed, new_checkpoint("e", 1)]
        assert [one.id for one in after] == [one.id for one in before]
        assert len({one.id for one in after} - {None}) == 2

    # Transactions of the user

    @over_a_store
    async def test_a_function_is_called_and_its_records_are_saved(
        self, store: CheckpointStore
    ) -> None:
        claim = await created(store, new_execution("e"))
        done = new_checkpoint(
            "e", 0, status=StepStatus.COMPLETED, output_data="1", completed_at=NOON, event=1
        )
        called: list[Any] = []

        def function(connection: Any) -> list[StepCheckpoint]:
            called.append(connection)
            return [done]

        assert await store.transact(function, _never, claim=claim, timeout=MINUTE)
        assert len(called) == 1
        assert without_ids(await store.load_checkpoints("e")) == [done]

    @over_a_store
    async def test_what_is_made_of_the_error_is_saved_instead(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e"))
        unfit = new_checkpoint("e", 0, status=StepStatus.COMPLETED, output_data="{", event=1)
        errors: list[BaseException] = []

        def fails(_: Any) -> list[StepCheckpoint]:
            raise ZeroDivisionError

        def takes_long(_: Any) -> list[StepCheckpoint]:
            sleep(0.02)
            return [unfit]

        def failed(error: BaseException) -> list[StepCheckpoint]:
            errors.append(error)
            return [new_checkpoint("e", len(errors), status=StepStatus.FAILED, completed_at=NOON)]

        def gives_unfit(_: Any) -> list[StepCheckpoint]:
            return [unfit]

        for function, timeout in (
            (fails, MINUTE),
            (gives_unfit, MINUTE),
            (takes_long, timedelta(milliseconds=10)),
        ):
            assert await store.transact(function, failed, claim=claim, timeout=timeout)
        assert [type(one) for one in errors] == [
            ZeroDivisionError,
            SerializationError,
            TransactionTimeoutError,
        ]
        saved = await store.load_checkpoints("e")
        assert [(one.step_index, one.status) for one in saved] == [
            (1, StepStatus.FAILED),
            (2, StepStatus.FAILED),
            (3, StepStatus.FAILED),
        ]

    @over_a_store
    async def test_under_a_lost_claim_no_function_is_called(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e"))
        await store.release_claims([claim])
        with pytest.raises(ClaimLostError):
            await store.transact(_never, _never, claim=claim, timeout=MINUTE)
        assert await store.load_checkpoints("e") == []

    @over_a_store
    async def test_no_function_is_called_while_a_signal_is_there(
        self, store: CheckpointStore
    ) -> None:
        claim = await created(store, new_execution("e"))
        go = await send(store, new_signal("e", "go"))
        more: dict[str, Any] = {"claim": claim, "timeout": MINUTE}
        assert not await store.transact(_never, _never, unless_signal="go", **more)
        done = new_checkpoint("e", 0, status=StepStatus.COMPLETED, output_data="1", event=1)
        done = msgspec.structs.replace(done, completed_at=NOON)
        assert await store.transact(lambda _: [done], _never, unless_signal="stop", **more)
        assert go.workflow_signal_id is not None
        more["passed_over"] = [go.workflow_signal_id]
        assert await store.transact(lambda _: [done], _never, unless_signal="go", **more)
        await send(store, new_signal("e", "go"))
        assert not await store.transact(_never, _never, unless_signal="go", **more)

    @over_a_store
    async def test_writes_and_functions_keep_their_order(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e"))
        order: list[int] = []

        def done(number: int) -> StepCheckpoint:
            return new_checkpoint(
                "e",
                number,
                status=StepStatus.COMPLETED,
                output_data="1",
                completed_at=NOON,
                event=number + 1,
            )

        async def save(number: int) -> None:
            if number % 3 == 0:
                await store.transact(lambda _: [done(number)], _never, claim=claim, timeout=MINUTE)
            elif number % 3 == 1:
                await store.finish_step(done(number), claim=claim, has_begun=False)
            else:
                await store.save(done(number), claim=claim)
            order.append(number)

        await asyncio.gather(*map(save, range(12)))
        assert order == list(range(12))
        assert [one.step_index for one in await store.load_checkpoints("e")] == order

    @over_a_store
    async def test_an_event_that_is_taken_back_is_none(self, store: CheckpointStore) -> None:
        failed: dict[str, Any] = {"status": StepStatus.FAILED, "completed_at": NOON}
        again = new_checkpoint("e", 0, **failed, due_at=NOON)
        await store.save(new_execution("e"), new_checkpoint("e", 0, **failed, event=1))
        await store.save(again)
        assert without_ids(await store.load_checkpoints("e")) == [again]

    # Steps

    @over_a_store
    async def test_a_step_begins_and_is_finished(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e"))
        begun: dict[str, Any] = {
            "started_at": NOON,
            "input_data": '{"attempt":2}',
            "idempotency_key": "key",
            "compensate_ref": "shop:refund",
        }
        outcomes: list[StepCheckpoint] = []
        alone: dict[str, Any] = {"started_at": NOON}
        for fields in (alone, begun):
            for status, ended in WAYS_TO_END:
                for is_beside in (False, True):
                    index = len(outcomes)
                    beside = [
                        new_execution(
                            "e", status=ExecutionStatus.RUNNING, current_step=2 * index + n
                        )
                        for n in (1, 2)
                        if is_beside
                    ]
                    intent = new_checkpoint("e", index, **fields)
                    await store.begin_step(intent, *beside[:1], claim=claim)
                    found = await taken(store, "e")
                    assert without_ids(found.checkpoints) == [*outcomes, intent]
                    assert not is_beside or found.execution.current_step == 2 * index + 1
                    outcomes.append(
                        msgspec.structs.replace(
                            intent, status=status, completed_at=NOON + MINUTE, **ended
                        )
                    )
                    await store.finish_step(outcomes[-1], *beside[1:], claim=claim)
                    found = await taken(store, "e")
                    assert without_ids(found.checkpoints) == outcomes
                    assert not is_beside or found.execution.current_step == 2 * index + 2
        # An attempt of a compensation begins again under the same key.
        again = msgspec.structs.replace(outcomes[0], status=StepStatus.INTENT, due_at=NOON)
        await store.save(again, claim=claim)
        intent = new_checkpoint("e", 0, started_at=NOON + MINUTE)
        await store.begin_step(intent, claim=claim)
        assert without_ids(await store.load_checkpoints("e")) == [intent, *outcomes[1:]]

    @over_a_store
    async def test_a_record_beside_a_step_is_saved_whole_whatever_was_saved_before(
        self, store: CheckpointStore
    ) -> None:
        """A store may save only a part if that seems enough, but must find out when it is not."""
        begun = new_execution("e", status=ExecutionStatus.RUNNING, recovery_count=2)
        claim = await created(store, begun)
        index = 0
        for before in (
            {},
            {"status": ExecutionStatus.SUSPENDED},
            {"error_type": "builtins:ValueError", "error_message": "why"},
            {"output_data": "5", "last_event": 3},
            {"status": ExecutionStatus.COMPENSATING, "error_type": "x:Y", "last_event": 1},
        ):
            for after in (
                {},
                {"recovery_count": 0, "current_step": 4},
                {"error_type": "builtins:KeyError"},
                {"error_message": "another"},
                {"output_data": "6"},
                {"last_event": 9},
            ):
                index += 1
                intent = new_checkpoint("e", index, status=StepStatus.INTENT, started_at=NOON)
                at = NOON + index * MINUTE
                wanted = msgspec.structs.replace(begun, updated_at=at, **after)
                await store.save(msgspec.structs.replace(begun, **before), claim=claim)
                await store.begin_step(intent, claim=claim)
                done = msgspec.structs.replace(
                    intent, status=StepStatus.COMPLETED, completed_at=at, event=index
                )
                await store.finish_step(done, wanted, claim=claim)
                assert (await taken(store, "e")).execution == wanted, (before, after)

    @over_a_store
    async def test_a_claim_covers_the_steps_of_its_own_execution_alone(
        self, store: CheckpointStore
    ) -> None:
        claim = await created(store, new_execution("e"))
        await store.save(new_execution("other"))
        for checkpoint in (new_checkpoint("other", 0), new_checkpoint("unknown", 0)):
            with pytest.raises(ValueError, match=checkpoint.workflow_execution_id):
                await store.begin_step(checkpoint, claim=claim)
            with pytest.raises(ValueError, match=checkpoint.workflow_execution_id):
                await store.finish_step(checkpoint, claim=claim)
        with pytest.raises(ValueError, match="other"):
            await store.begin_step(new_checkpoint("e", 0), new_execution("other"), claim=claim)
        await nothing_belongs_to(store, "e")
        await nothing_belongs_to(store, "other")

    @over_a_store
    async def test_a_compensated_step_keeps_its_completed_checkpoint(
        self, store: CheckpointStore
    ) -> None:
        completed = new_checkpoint("e", 0, status=StepStatus.COMPLETED, output_data='"paid"')
        undone = new_checkpoint(
            "e", 0, name="step 0:compensate", attempt=0, status=StepStatus.COMPENSATED
        )
        await store.save(new_execution("e"), completed)
        await store.save(undone)
        assert without_ids(await store.load_checkpoints("e")) == [undone, completed]

    @over_a_store
    async def test_checkpoints_come_by_branch_index_and_attempt(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_execution("other"), new_checkpoint("other", 1))
        order = [
            (branch, index, attempt)
            for branch in ("", "a", "b")
            for index in (0, 2, 9, 10, 100)
            for attempt in (0, 1, 2, 10)
        ]
        for branch, index, attempt in sorted(order, key=hash):
            await store.save(new_checkpoint("e", index, branch=branch, attempt=attempt, name="s"))
        found = await store.load_checkpoints("e")
        assert [(one.branch, one.step_index, one.attempt) for one in found] == order

    # Signals

    @over_a_store
    async def test_signals_come_in_the_order_of_arrival(self, store: CheckpointStore) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        # The later one says that it is older: arrival counts, and no clock.
        arrived = [
            await send(store, new_signal("e", name, created_at=NOON - number * MINUTE))
            for number, name in enumerate(("go", "stop", "go"))
        ]
        await store.send_signal(new_signal("f", "go"))
        first, second, third = arrived
        ids = [one.workflow_signal_id or 0 for one in arrived]
        assert ids == sorted(set(ids))
        assert await store.load_signals("e") == arrived
        assert await store.load_pending_signals("e") == arrived
        assert await store.load_pending_signals("e", "go") == [first, third]
        assert await store.load_pending_signals("e", "stop") == [second]
        assert await store.load_pending_signals("e", "STOP") == []
        heard = msgspec.structs.replace(first, status=SignalStatus.DELIVERED)
        await store.save(heard)
        assert await store.load_pending_signals("e", "go") == [third]
        assert await store.load_pending_signals("e") == [second, third]
        assert await store.load_signals("e") == [heard, second, third]

    @over_a_store
    async def test_the_next_signals_are_the_first_pending_one_of_each_name(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        await store.save(
            new_signal("f", "go"),
            new_signal("e", "go", status=SignalStatus.DELIVERED),
            new_signal("e", "go", status=SignalStatus.EXPIRED),
        )
        # The later ones say that they are older: arrival counts, and no clock.
        stop = await send(store, new_signal("e", "stop", created_at=NOON))
        first = await send(store, new_signal("e", "go", created_at=NOON - MINUTE))
        second = await send(store, new_signal("e", "go", created_at=NOON - 2 * MINUTE))
        for names in (
            ["go", "stop"],
            ["stop", "go", "never"],
            {"stop", "go"},
            ["go", "go", "stop"],
        ):
            assert await store.load_next_signals("e", names) == [stop, first]
        assert await store.load_next_signals("e", ["go"]) == [first]
        assert await store.load_next_signals("e", ["GO", "never"]) == []
        assert await store.load_next_signals("e", []) == []
        await store.save(msgspec.structs.replace(first, status=SignalStatus.DELIVERED))
        assert await store.load_next_signals("e", ["go", "stop"]) == [stop, second]

    @over_a_store
    async def test_a_refused_signal_says_why_and_is_pending_no_more(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"))
        sent = await send(store, new_signal("e", "go", payload="7", created_at=NOON))
        refused = msgspec.structs.replace(
            sent, status=SignalStatus.REFUSED, refused_reason="it is not a string"
        )
        await store.save(refused)
        assert await store.load_signals("e") == [refused]
        assert await store.load_pending_signals("e") == []
        assert await store.load_next_signals("e", ["go"]) == []

    @over_a_store
    async def test_an_execution_keeps_one_signal_of_a_key_whatever_becomes_of_it(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        entry = new_audit_entry("note")
        signal = new_signal("e", "go", payload="1", signal_key="mail-88", created_at=NOON)
        stored = await send(store, signal)
        assert stored.signal_key == "mail-88"
        again = new_signal("e", "on", payload="2", signal_key="mail-88")
        states = [stored]
        for changes in (
            {},
            {"status": SignalStatus.REFUSED, "refused_reason": "it is a number"},
            {"status": SignalStatus.DELIVERED},
        ):
            states.append(msgspec.structs.replace(stored, **changes))
            await store.save(states[-1])
            assert await store.send_signal(again, entry) is None
            await store.save(send=[again])  # it is left out
            with pytest.raises(StoreError):
                await store.save(again, entry)
            assert await store.load_signals("e") == [states[-1]]
            assert await store.load_keyed_signal("e", "mail-88") == states[-1]
        assert await store.load_audit_log("e") == []
        assert await store.load_keyed_signal("f", "mail-88") is None
        assert await store.load_keyed_signal("e", "mail-89") is None
        # Another key, none, and another execution: each is another message.
        for other in (
            new_signal("e", "go", signal_key="mail-89"),
            new_signal("e", "go"),
            new_signal("e", "go"),
            new_signal("f", "go", signal_key="mail-88"),
        ):
            await send(store, other)
        assert len(await store.load_signals("e")) == 4
        # It was sent, also if the execution is over: that is what its sender wants to know.
        await store.save(new_execution("e", status=ExecutionStatus.COMPLETED))
        assert await store.send_signal(again, entry) is None
        with pytest.raises(ExecutionFinishedError):
            await store.send_signal(new_signal("e", "go", signal_key="mail-90"), entry)
        assert await store.load_audit_log("e") == []

    @over_workers
    async def test_of_signals_with_one_key_at_once_one_is_stored(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        await store.save(new_execution("e"))
        other = await open_another()
        signals = [new_signal("e", "go", payload=str(n), signal_key="mail") for n in range(20)]
        stored = await asyncio.gather(
            *(one.send_signal(signal) for signal in signals for one in (store, other))
        )
        (only,) = [one for one in stored if one is not None]
        assert await store.load_signals("e") == [only]

    @over_a_store
    async def test_open_waits_are_those_that_have_begun_and_not_ended(
        self, store: CheckpointStore
    ) -> None:
        waits = [
            new_checkpoint(
                one,
                index,
                name=name,
                branch=branch,
                kind=kind,
                status=status,
                input_data='{"type":"int","json":["number"]}',
            )
            for one, index, name, branch, kind, status in (
                ("e", 1, "go", "left", StepKind.SIGNAL, StepStatus.INTENT),
                ("e", 0, "go", "left", StepKind.SIGNAL, StepStatus.INTENT),
                ("e", 7, "go", "", StepKind.SIGNAL, StepStatus.INTENT),
                ("e", 2, "go", "", StepKind.SIGNAL, StepStatus.COMPLETED),
                ("e", 3, "go", "", StepKind.STEP, StepStatus.INTENT),
                ("e", 4, "go", "", StepKind.SLEEP, StepStatus.INTENT),
                ("e", 5, "stop", "", StepKind.SIGNAL, StepStatus.INTENT),
                ("f", 0, "go", "", StepKind.SIGNAL, StepStatus.INTENT),
            )
        ]
        await store.save(new_execution("e"), new_execution("f"), *waits)
        found = await store.load_open_waits("e", "go")
        places = [(one.branch, one.step_index) for one in found]
        assert places == [("", 7), ("left", 0), ("left", 1)]
        assert {one.input_data for one in found} == {waits[0].input_data}
        assert await store.load_open_waits("e", "GO") == []

    @over_a_store
    async def test_a_question_is_open_until_its_wait_ends_and_takes_one_answer(
        self, store: CheckpointStore
    ) -> None:
        record = (
            '{"type":"bool","json":["boolean"],"name":"go","to":"finance",'
            '"asked":{"question":"Go on?","details":[1],"schema":{"type":"boolean"}}}'
        )
        name, entry = "$answer:go@1.0", new_audit_entry("answer", "e")
        waits = [
            new_checkpoint(
                execution,
                index,
                name=name,
                kind=StepKind.SIGNAL,
                status=status,
                input_data=record.replace("finance", to),
                started_at=NOON + index * MINUTE,
                due_at=due_at,
            )
            for execution, index, status, to, due_at in (
                ("e", 0, StepStatus.INTENT, "finance", NOON + 9 * MINUTE),
                ("f", 1, StepStatus.INTENT, "legal", None),
                ("f", 2, StepStatus.COMPLETED, "finance", None),
                ("over", 3, StepStatus.INTENT, "finance", None),
                ("undone", 4, StepStatus.INTENT, "finance", None),
            )
        ]
        await store.save(
            *map(new_execution, "ef"),
            new_execution("over", status=ExecutionStatus.CANCELLED),
            new_execution("undone", status=ExecutionStatus.COMPENSATING),
            *waits,
        )
        one, other = await store.load_questions()
        assert (one.workflow_execution_id, one.name, one.signal_name) == ("e", "go", name)
        assert (one.question, one.details, one.type, one.to) == ("Go on?", [1], "bool", "finance")
        assert one.schema == {"type": "boolean"}
        assert (one.asked_at, one.deadline) == (NOON, NOON + 9 * MINUTE)
        assert (one.branch, one.step_index, one.is_answered) == ("", 0, False)
        assert (other.workflow_execution_id, other.deadline) == ("f", None)
        assert await store.load_questions(limit=1) == [one]
        assert await store.load_questions("finance") == [one]
        assert await store.load_questions("legal") == [other]
        assert await store.load_questions("fin") == []
        assert await store.load_questions(workflow_execution_id="f") == [other]
        assert await store.load_questions("finance", "f") == []

        def an_answer(execution: str, at: datetime = NOON, signal: str = name) -> WorkflowSignal:
            return WorkflowSignal(
                workflow_execution_id=execution,
                signal_name=signal,
                payload="true",
                signal_key=f"by {at}",
                created_at=at,
            )

        for refused in (
            an_answer("e", NOON + 9 * MINUTE),
            an_answer("e", signal="$answer:go@1.1"),
            an_answer("over"),
            an_answer("undone"),
            an_answer("unknown"),
        ):
            assert await store.answer_question(refused, entry) is None
        assert await store.load_audit_log("e") == []
        answers = [an_answer("e", NOON + n * MINUTE) for n in range(8)]
        sent = await asyncio.gather(*(store.answer_question(x, entry) for x in answers))
        (counts,) = [answer for answer in sent if answer is not None]
        assert await store.load_pending_signals("e") == [counts]
        assert await store.load_audit_log("e") == [entry]
        assert [x.is_answered for x in await store.load_questions("finance")] == [True]
        refusal = {"status": SignalStatus.REFUSED, "refused_reason": "no bool"}
        await store.save(msgspec.structs.replace(counts, **refusal))
        assert [x.is_answered for x in await store.load_questions("finance")] == [False]
        assert await store.answer_question(an_answer("e", NOON + 8 * MINUTE)) is not None

    @over_a_store
    async def test_a_cancel_is_requested_once_and_only_of_what_can_be_cancelled(
        self, store: CheckpointStore
    ) -> None:
        for status in ExecutionStatus:
            entry = new_audit_entry("cancel", status)
            await store.save(new_execution(status, status=status))
            if status in FINAL:
                with pytest.raises(ExecutionFinishedError) as raised:
                    await store.request_cancel(status, entry, now=NOON)
                assert raised.value.workflow_execution_id == raised.value.status == status
                assert await store.load_signals(status) == []
                assert await store.load_audit_log(status) == []
                continue
            request = await store.request_cancel(status, entry, now=NOON)
            may_be = status is not ExecutionStatus.COMPENSATING
            assert (request is not None) is may_be
            pending = await store.load_pending_signals(status)
            assert pending == ([] if request is None else [request])
            if request is not None:
                assert (request.signal_name, request.created_at) == (CANCEL_SIGNAL, NOON)
            assert await store.request_cancel(status, entry, now=NOON) is None
            assert await store.load_audit_log(status) == [entry] * may_be
        with pytest.raises(ExecutionNotFoundError):
            await store.request_cancel("unknown", now=NOON)

    # All or nothing

    @over_a_store
    async def test_any_mix_of_records_is_saved_at_once(self, store: CheckpointStore) -> None:
        workflow = Workflow(workflow_id="w2", workflow_type="w", created_at=NOON)
        execution = new_execution("e", workflow_id="w2", created_at=NOON, updated_at=NOON)
        checkpoint, timer = new_checkpoint("e", 0), new_timer("e", "t", NOON)
        await store.save(workflow, execution, checkpoint, timer, new_signal("e", "go"))
        assert await store.load_workflow("w2") == workflow
        found = await taken(store, "e")
        assert found.execution == execution
        assert without_ids(found.checkpoints) == [checkpoint]
        assert found.pending_timers == [timer]
        assert len(await store.load_pending_signals("e")) == 1
        await store.save()
        await store.release_claims([])
        assert await taken(store, "e") == found

    @over_a_store
    async def test_a_record_that_breaks_a_rule_takes_the_others_along(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_execution("over", status=ExecutionStatus.FAILED))
        good: list[Record] = [
            Workflow(workflow_id="w2", workflow_type="w"),
            new_execution("e", status=ExecutionStatus.RUNNING),
            new_execution("new"),
            new_checkpoint("e", 0),
            new_timer("e", "t", NOON),
            new_signal("e", "go"),
        ]
        for bad, error in (
            (new_checkpoint("unknown", 0), StoreError),
            (new_execution("over", status=ExecutionStatus.RUNNING), ExecutionFinishedError),
        ):
            for records in ([*good, bad], [bad, *good], [*good[:3], bad, *good[3:]]):
                with pytest.raises(error):
                    await store.save(*records)
                assert await store.load_workflow("w2") is None
                assert await store.load_execution("new") is None
                assert (await loaded(store, "e")).status is ExecutionStatus.PENDING
                await nothing_belongs_to(store, "e")
        await store.save(*good)
        assert await store.load_execution("new") is not None

    @over_a_store
    async def test_a_record_must_belong_to_something_known(self, store: CheckpointStore) -> None:
        for orphan in (
            new_checkpoint("unknown", 0),
            new_timer("unknown", "t", NOON),
            new_signal("unknown", "go"),
            new_execution("e", workflow_id="unknown"),
        ):
            with pytest.raises(StoreError):
                await store.save(orphan)
        assert await store.load_execution("e") is None
        await nothing_belongs_to(store, "unknown")

    @over_a_store
    async def test_of_many_saves_at_once_only_the_one_that_fails_fails(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"))
        outcomes = await asyncio.gather(
            *(
                store.save(new_checkpoint("unknown" if index == 50 else "e", index))
                for index in range(100)
            ),
            return_exceptions=True,
        )
        assert isinstance(outcomes.pop(50), StoreError)
        assert outcomes == [None] * 99
        saved = {one.step_index for one in await store.load_checkpoints("e")}
        assert saved == set(range(100)) - {50}

    # What is final

    @over_a_store
    async def test_a_final_status_is_never_overwritten(self, store: CheckpointStore) -> None:
        for status in FINAL:
            final = execution_with_everything(status, status=status, is_paused=False)
            await store.save(final)
            for late in ExecutionStatus:
                with pytest.raises(ExecutionFinishedError) as raised:
                    await store.save(new_execution(status, status=late, output_data="2"))
                assert raised.value.workflow_execution_id == raised.value.status == status
                assert await loaded(store, status) == final
            # As it is, it may be saved again.
            await store.save(final, new_checkpoint(status, 0))
            assert await loaded(store, status) == final
            assert len(await store.load_checkpoints(status)) == 1

    @over_a_store
    async def test_nothing_is_due_and_no_signal_waits_for_a_final_execution(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("bystander"))
        for number, status in enumerate(FINAL, 1):
            await store.save(
                new_execution(status),
                *(new_timer(one, f"{status}.{one}", NOON) for one in (status, "bystander")),
                *(new_signal(one, status) for one in (status, "bystander")),
            )
            await store.save(new_execution(status, status=status))
            assert (await taken(store, status)).pending_timers == []
            assert [one.status for one in await store.load_signals(status)] == [
                SignalStatus.EXPIRED
            ]
            assert len(await store.load_pending_signals("bystander")) == number
            assert len((await taken(store, "bystander")).pending_timers) == number

    # Starting

    @over_a_store
    async def test_an_execution_is_created_with_a_claim(self, store: CheckpointStore) -> None:
        workflow = Workflow(workflow_id="w2", workflow_type="w", created_at=NOON)
        execution = execution_with_everything(
            "e", workflow_id="w2", blocked_reason=None, trouble=None, is_paused=False
        )
        claim = await created(store, execution, workflow)
        assert (claim.workflow_execution_id, claim.worker_id) == ("e", store.worker_id)
        assert claim.status_before is execution.status
        assert await store.load_workflow("w2") == workflow
        assert await loaded(store, "e") == execution
        assert await store.claim_execution("e") is None
        await store.save(new_execution("e", workflow_id="w2"), claim=claim)

    @over_a_store
    async def test_a_definition_that_is_there_stays_as_it_was(self, store: CheckpointStore) -> None:
        other = Workflow(workflow_id="order:1", workflow_type="order", created_at=NOON)
        await created(store, new_execution("e"), other)
        assert await store.load_workflow("order:1") == WORKFLOW

    @over_a_store
    async def test_starting_under_an_id_that_is_taken_writes_nothing(
        self, store: CheckpointStore
    ) -> None:
        first = new_execution("e", status=ExecutionStatus.COMPLETED)
        await store.save(first)
        workflow = Workflow(workflow_id="w2", workflow_type="w")
        second = queued("e", NOON, workflow_id="w2")
        assert await store.create_execution(workflow, second, {"customer": "7"}) is None
        entry = new_audit_entry("rerun", "e")
        assert not await store.enqueue_execution(workflow, second, {"customer": "7"}, entry)
        assert await loaded(store, "e") == first
        assert await store.load_workflow("w2") is None
        await nothing_belongs_to(store, "e")

    @over_a_store
    async def test_what_cannot_run_cannot_be_started(self, store: CheckpointStore) -> None:
        for execution in (
            new_execution("e", workflow_id="unknown"),
            new_execution("e", blocked_reason="why not"),
            new_execution("e", trouble="it does not fit"),
            *(new_execution("e", status=status) for status in FINAL),
        ):
            with pytest.raises(ValueError, match="'e'"):
                await store.create_execution(WORKFLOW, execution)
            with pytest.raises(ValueError, match="'e'"):
                await store.enqueue_execution(WORKFLOW, execution)
        for tags in (
            {"": "7"},
            {"a=b": "7"},
            {"customer": ""},
            {"customer": " 7"},
            {"customer": 7},
            {"x" * 257: "7"},
        ):
            wrong: Any = tags
            with pytest.raises((TypeError, ValueError), match="tag"):
                await store.create_execution(WORKFLOW, new_execution("e"), wrong)
        assert await store.load_execution("e") is None

    @over_a_store
    async def test_tags_come_back_as_they_were_given(self, store: CheckpointStore) -> None:
        tags = {"customer": "7", "größe": "L 'quoted' = \"x\""}
        assert await store.create_execution(WORKFLOW, new_execution("e"), tags) is not None
        assert await store.enqueue_execution(WORKFLOW, new_execution("f"), {"customer": "8"})
        assert await store.enqueue_execution(WORKFLOW, new_execution("g"))
        assert not await store.enqueue_execution(WORKFLOW, new_execution("e"), {"other": "8"})
        assert await store.load_tags("e") == tags
        assert await store.load_tags("f") == {"customer": "8"}
        assert await store.load_tags("g") == await store.load_tags("unknown") == {}

    @over_a_store
    async def test_what_is_saved_beside_a_new_execution_is_saved_with_it_or_not_at_all(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("old"))
        for is_new in (True, False):
            entries = (new_audit_entry("rerun", "old"), new_audit_entry("rerun", "new"))
            stored = await store.enqueue_execution(WORKFLOW, queued("new", NOON), None, *entries)
            assert stored is is_new
            for one in ("old", "new"):
                assert len(await store.load_audit_log(one)) == 1
        assert await store.load_workflows() == [WORKFLOW]

    @over_a_store
    async def test_a_fork_gets_the_records_that_it_begins_with_all_or_none(
        self, store: CheckpointStore
    ) -> None:
        fork = queued(
            "new",
            NOON,
            forked_from="old",
            forked_before="step 'pay' (index 1)",
            replay_origin='{"began_at":"2025-01-01T00:00:00Z","seeds":[["old",1]]}',
        )
        step = new_checkpoint(
            "new", 0, status=StepStatus.COMPLETED, completed_at=NOON, event=1, output_data="1"
        )
        step = msgspec.structs.replace(step, input_data='{"ran_in":"old"}')
        timer, patch = (
            new_timer("new", "t", NOON + MINUTE),
            WorkflowPatch(workflow_execution_id="new", patch_name="tax"),
        )
        records = (step, timer, patch, new_signal("new", "go"), new_audit_entry("fork", "new"))
        assert await store.enqueue_execution(WORKFLOW, fork, {"customer": "7"}, *records)
        found = await taken(store, "new")
        assert found.execution == fork
        assert [msgspec.structs.replace(one, id=None) for one in found.checkpoints] == [step]
        assert (found.pending_timers, found.patches) == ([timer], [patch])
        assert [one.signal_name for one in await store.load_pending_signals("new")] == ["go"]
        assert not await store.enqueue_execution(WORKFLOW, fork, None, new_checkpoint("new", 1))
        assert await taken(store, "new") == found
        # What a replay of the copies needs changes with them.
        becomes = msgspec.structs.replace(found.execution, replay_origin=None)
        assert await store.mend_execution(found, becomes, forget=found.checkpoints, now=NOON)
        assert await loaded(store, "new") == becomes
        other = msgspec.structs.replace(fork, workflow_execution_id="other")
        twice = [new_signal("other", "go", signal_key="k") for _ in range(2)]
        with pytest.raises(StoreError):
            await store.enqueue_execution(WORKFLOW, other, None, new_checkpoint("other", 0), *twice)
        assert await store.load_execution("other") is None

    @over_a_store
    async def test_a_new_execution_gets_its_signals_with_it(self, store: CheckpointStore) -> None:
        def signals(one: str) -> list[WorkflowSignal]:
            return [new_signal(one, "go", payload="1", signal_key="k"), new_signal(one, "stop")]

        claim = await store.create_execution(
            WORKFLOW, new_execution("e", status=ExecutionStatus.RUNNING), None, *signals("e")
        )
        assert claim is not None
        later = NOON + MINUTE
        assert await store.enqueue_execution(WORKFLOW, queued("f", later), None, *signals("f"))
        for one in ("e", "f"):
            names = [signal.signal_name for signal in await store.load_pending_signals(one)]
            assert names == ["go", "stop"]
            again = queued(one, NOON)
            assert await store.create_execution(WORKFLOW, again, None, *signals(one)) is None
            assert not await store.enqueue_execution(WORKFLOW, again, None, *signals(one))
            assert len(await store.load_signals(one)) == 2
        # Its worker has the one. The other is delayed as long as it was to be.
        assert (await loaded(store, "e")).available_at is None
        assert (await loaded(store, "f")).available_at == later
        twice = [new_signal("g", "go", signal_key="k") for _ in range(2)]
        with pytest.raises(StoreError):
            await store.create_execution(WORKFLOW, new_execution("g"), None, *twice)
        with pytest.raises(StoreError):
            await store.enqueue_execution(WORKFLOW, queued("g", NOON), None, *twice)
        assert await store.load_execution("g") is None
        await store.save(new_checkpoint("e", 0), claim=claim)

    # Starting and signalling others

    @over_a_store
    async def test_a_write_starts_and_signals_other_executions(
        self, store: CheckpointStore
    ) -> None:
        claim = await created(store, new_execution("parent"))
        other = Workflow(workflow_id="w2", workflow_type="pay", created_at=NOON)
        first, second = queued("first", NOON), queued("second", NOON, workflow_id="w2")
        step = new_checkpoint("parent", 0)
        await store.save(
            step,
            claim=claim,
            start=[
                NewExecution(workflow=WORKFLOW, execution=first, tags={"parent": "parent"}),
                NewExecution(workflow=other, execution=second),
            ],
            send=[
                new_signal("second", "go", payload="1", created_at=NOON),
                new_signal("unknown", "go"),
                new_signal("parent", "done", created_at=NOON),
            ],
        )
        assert without_ids(await store.load_checkpoints("parent")) == [step]
        assert (await loaded(store, "first"), await loaded(store, "second")) == (first, second)
        assert await store.load_tags("first") == {"parent": "parent"}
        assert await store.load_workflow("w2") == other
        (sent,) = await store.load_pending_signals("second", "go")
        assert (sent.payload, sent.created_at) == ("1", NOON)
        assert len(await store.load_pending_signals("parent", "done")) == 1
        assert await store.load_signals("unknown") == []
        claims = await store.claim_available([*ORDER, ("pay", 1)], 9, now=NOON)
        assert sorted(claimed_ids(claims)) == ["first", "second"]
        # Its end may be one with what follows from it; what is final by then hears nothing.
        await store.save(
            new_execution("parent", status=ExecutionStatus.COMPLETED),
            claim=claim,
            send=[new_signal("parent", "late"), new_signal("first", "go")],
        )
        assert "late" not in {one.signal_name for one in await store.load_signals("parent")}
        assert len(await store.load_pending_signals("first")) == 1

    @over_a_store
    async def test_a_start_or_a_signal_that_is_refused_takes_all_along(
        self, store: CheckpointStore
    ) -> None:
        claim = await created(store, new_execution("parent"))
        await store.save(new_execution("taken"))
        new = [
            NewExecution(workflow=WORKFLOW, execution=queued(one, NOON)) for one in ("new", "taken")
        ]
        send = [new_signal("taken", "go")]
        with pytest.raises(ExecutionConflictError) as raised:
            await store.save(new_checkpoint("parent", 0), claim=claim, start=new, send=send)
        assert raised.value.workflow_execution_id == "taken"
        with pytest.raises(ExecutionConflictError):
            await store.save(claim=claim, start=[new[0], new[0]], send=send)
        with pytest.raises(ValueError, match=r"\$cancle"):
            await store.save(claim=claim, start=new[:1], send=[new_signal("taken", "$cancle")])
        assert await store.load_execution("new") is None
        await nothing_belongs_to(store, "parent")
        await nothing_belongs_to(store, "taken")
        await store.save(claim=claim, start=new[:1])
        assert await store.load_execution("new") is not None

    # Under a claim

    @over_a_store
    async def test_records_are_written_under_a_claim(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e", started_at=NOON))
        await store.save(
            Workflow(workflow_id="w2", workflow_type="w"),
            new_execution("e", status=ExecutionStatus.RUNNING),
            new_checkpoint("e", 0),
            new_timer("e", "t", NOON),
            new_signal("e", "go"),
            claim=claim,
        )
        found = await taken(store, "e")
        assert found.execution.status is ExecutionStatus.RUNNING
        assert (len(found.checkpoints), len(found.pending_timers)) == (1, 1)
        assert len(await store.load_pending_signals("e")) == 1
        assert await store.load_workflow("w2") is not None
        # The last event is saved, and the start stays.
        for status, last in ((ExecutionStatus.COMPENSATING, 0), (ExecutionStatus.FAILED, 3)):
            await store.save(new_execution("e", status=status, last_event=last), claim=claim)
            ending = await loaded(store, "e")
            assert (ending.last_event, ending.started_at) == (last, NOON)

    @over_a_store
    async def test_a_claim_covers_its_own_execution_alone(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e"))
        await store.save(new_execution("other"))
        for record in (
            new_execution("other", status=ExecutionStatus.RUNNING),
            new_checkpoint("other", 0),
            new_timer("other", "t", NOON),
            new_signal("other", "go"),
        ):
            with pytest.raises(ValueError, match="other"):
                await store.save(new_checkpoint("e", 0), record, claim=claim)
        await nothing_belongs_to(store, "e")
        await nothing_belongs_to(store, "other")

    @over_a_store
    async def test_a_write_under_a_lost_claim_changes_nothing(self, store: CheckpointStore) -> None:
        lost = await created(store, new_execution("e"))
        signal = await send(store, new_signal("e", "go"))
        timer = new_timer("e", "t", NOON)
        await store.save(timer)
        await store.release_claims([lost])
        await is_refused_everything(store, lost)
        held = await claimed(store, "e")
        await is_refused_everything(store, lost)

        found = await taken(store, "e")
        assert found.execution.status is ExecutionStatus.RUNNING
        assert (found.checkpoints, found.pending_timers) == ([], [timer])
        assert await store.load_pending_signals("e") == [signal]
        assert await store.load_workflow("w2") is None
        await store.save(new_checkpoint("e", 0), claim=held)

    @over_a_store
    async def test_an_execution_that_becomes_final_loses_its_claim(
        self, store: CheckpointStore
    ) -> None:
        for status in FINAL:
            claim = await created(store, new_execution(status))
            # What is saved beside it is still written under the claim, in whatever order.
            await store.save(
                new_checkpoint(status, 0),
                new_execution(status, status=status),
                new_checkpoint(status, 1),
                claim=claim,
            )
            assert len(await store.load_checkpoints(status)) == 2
            with pytest.raises(ClaimLostError):
                await store.save(new_checkpoint(status, 2), claim=claim)
            assert len(await store.load_checkpoints(status)) == 2

    @over_a_store
    async def test_a_lost_claim_fails_alone_among_writes_at_once(
        self, store: CheckpointStore
    ) -> None:
        lost = await created(store, new_execution("e"))
        held = await created(store, new_execution("f"))
        await store.release_claims([lost])
        outcomes = await asyncio.gather(
            store.save(new_checkpoint("f", 0), claim=held),
            store.begin_step(new_checkpoint("f", 1), claim=held),
            store.save(new_checkpoint("e", 0), claim=lost),
            store.begin_step(new_checkpoint("e", 1), claim=lost),
            store.begin_step(new_checkpoint("f", 2), claim=held),
            return_exceptions=True,
        )
        ok = type(None)
        assert [type(one) for one in outcomes] == [ok, ok, ClaimLostError, ClaimLostError, ok]
        assert len(await store.load_checkpoints("f")) == 3
        assert await store.load_checkpoints("e") == []

    # Several stores

    @over_workers
    async def test_records_outlive_the_store_that_wrote_them(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        execution = execution_with_everything("e")
        await store.save(execution, checkpoint_with_everything("e", 0))
        saves = [
            asyncio.create_task(store.save(new_checkpoint("e", index))) for index in range(1, 20)
        ]
        await asyncio.sleep(0)
        await store.close()  # what was asked for is finished
        await asyncio.gather(*saves)
        again = await open_another()
        found = await taken(again, "e")
        assert found.execution == execution
        assert without_ids(found.checkpoints[:1]) == [checkpoint_with_everything("e", 0)]
        assert len(found.checkpoints) == 20
        assert await again.load_workflow("order:1") == WORKFLOW

    @over_workers
    async def test_workers_that_write_at_once_lose_nothing(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.save(new_execution("e"))

        async def write(worker: CheckpointStore, branch: str) -> None:
            for index in range(50):
                await worker.save(new_checkpoint("e", index, branch=branch))

        await asyncio.gather(write(store, "one"), write(other, "two"))
        assert len(await store.load_checkpoints("e")) == 100


def _never(_: Any) -> list[StepCheckpoint]:
    raise AssertionError("it must not be called")
