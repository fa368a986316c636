"""The store contract: what is saved comes back, in order, all or nothing, and final things stay."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ExecutionConflictError,
    ExecutionStatus,
    Record,
    SerializationError,
    SignalStatus,
    StepKind,
    StepStatus,
    StoreError,
    TakenExecution,
    TimerStatus,
    Workflow,
    WorkflowSignal,
)
from durable_workflow_sqlite.records import CANCEL_SIGNAL
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    MINUTE,
    NOON,
    WORKFLOW,
    StoreContract,
    checkpoint_with_everything,
    execution_with_everything,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
    nothing_belongs_to,
    over_a_store,
    without_ids,
)


class SavingContract(StoreContract):
    """Records and what becomes of them."""

    # What is saved comes back

    @over_a_store
    async def test_a_workflow_comes_back_as_it_was_saved(self, store: CheckpointStore) -> None:
        workflow = Workflow(workflow_id="x", workflow_type="pay", version=7, created_at=NOON)
        await store.save_workflow(workflow)
        assert await store.load_workflow("x") == workflow

    @over_a_store
    async def test_an_execution_comes_back_as_it_was_saved(self, store: CheckpointStore) -> None:
        for execution in (execution_with_everything("a"), new_execution("b")):
            await store.save_execution(execution)
            assert await store.load_execution(execution.workflow_execution_id) == execution

    @over_a_store
    async def test_a_checkpoint_comes_back_as_it_was_saved(self, store: CheckpointStore) -> None:
        await store.save_execution(new_execution("e"))
        checkpoints = [checkpoint_with_everything("e", 0), new_checkpoint("e", 1)]
        for checkpoint in checkpoints:
            await store.save_checkpoint(checkpoint)
        assert without_ids(await store.load_checkpoints("e")) == checkpoints

    @over_a_store
    async def test_a_timer_comes_back_as_it_was_saved(self, store: CheckpointStore) -> None:
        await store.save_execution(new_execution("e"))
        timer = new_timer("e", "t", NOON)
        await store.save_timer(timer)
        assert await store.load_pending_timers() == [timer]
        assert await store.load_timers("e") == [timer]

    @over_a_store
    async def test_a_signal_comes_back_as_it_was_saved(self, store: CheckpointStore) -> None:
        await store.save_execution(new_execution("e"))
        signal = WorkflowSignal(
            workflow_execution_id="e", signal_name="go", payload='{"a": [1]}', created_at=NOON
        )
        saved = await store.save_signal(signal)
        assert saved.workflow_signal_id is not None
        assert saved == new_signal(
            "e", "go", payload='{"a": [1]}', created_at=NOON, id=saved.workflow_signal_id
        )
        assert await store.load_pending_signals("e") == [saved]

    @over_a_store
    async def test_what_is_taken_is_recorded_or_pending(self, store: CheckpointStore) -> None:
        await store.save_execution(new_execution("e"))
        later, sooner = new_timer("e", "later", NOON + MINUTE), new_timer("e", "sooner", NOON)
        await store.save(
            new_checkpoint("e", 1),
            checkpoint_with_everything("e", 0),
            later,
            sooner,
            new_timer("e", "over", NOON, status=TimerStatus.FIRED),
        )
        await store.send_signal(new_signal("e", "go"))
        taken, execution = await store.take_execution("e"), await store.load_execution("e")
        assert execution is not None
        assert taken == TakenExecution(
            execution=execution,
            checkpoints=await store.load_checkpoints("e"),
            pending_timers=[sooner, later],
            is_to_cancel=False,
        )
        await store.send_signal(new_signal("e", CANCEL_SIGNAL))
        assert taken is not None
        cancelled = msgspec.structs.replace(taken, is_to_cancel=True)
        assert await store.take_execution("e") == cancelled

    @over_a_store
    async def test_what_is_unknown_is_none_or_an_empty_list(self, store: CheckpointStore) -> None:
        assert await store.load_workflow("unknown") is None
        assert await store.load_execution("unknown") is None
        assert await store.load_checkpoints("unknown") == []
        assert await store.load_timers("unknown") == []
        assert await store.take_execution("unknown") is None
        assert await store.load_pending_timers() == []
        assert await store.load_pending_signals("unknown") == []
        assert await store.load_pending_signals("unknown", "go") == []
        assert await store.load_next_signals("unknown", ["go"]) == []
        assert await store.load_open_waits("unknown", "go") == []
        assert await store.load_last_signal_id() == 0
        assert await store.load_signals_after(0) == []
        assert await store.load_executions_by_status(list(ExecutionStatus)) == []
        assert await store.load_unqueued_executions() == []
        assert await store.load_blocked() == []
        assert await store.load_unregistered([], 9) == []
        assert await store.load_next_available_at([("order", 1)]) is None
        assert await store.claim_available([("order", 1)], 10) == []

    @over_a_store
    async def test_times_keep_their_microseconds_and_become_utc(
        self, store: CheckpointStore
    ) -> None:
        in_india = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
        for index, time in enumerate((in_india, NOON.replace(microsecond=0), NOON + MINUTE / 7)):
            execution = new_execution(
                f"e{index}", ttl_expires_at=time, created_at=time, updated_at=time
            )
            await store.save_execution(execution)
            loaded = await store.load_execution(f"e{index}")
            assert loaded is not None
            assert loaded == execution
            for found in (loaded.ttl_expires_at, loaded.created_at, loaded.updated_at):
                assert found is not None
                assert found == time
                assert found.utcoffset() == timedelta(0)

    @over_a_store
    async def test_text_keeps_every_character(self, store: CheckpointStore) -> None:
        said = "Grüße, 世界, \U0001f680, ﷽, e\u0301 and \u00e9, '\"\"', \\, :name, ?, %s, \r\n\t"
        text = msgspec.json.encode(said).decode()
        await store.save_execution(new_execution("héllo 世界 \U0001f680", input_data=text))
        (execution,) = await store.load_executions_by_status([ExecutionStatus.PENDING])
        assert execution.workflow_execution_id == "héllo 世界 \U0001f680"
        assert execution.input_data == text

    @over_a_store
    async def test_a_payload_may_be_big(self, store: CheckpointStore) -> None:
        big = f'"{"0123456789é" * 300_000}"'
        await store.save_execution(new_execution("e", input_data=big))
        await store.save_checkpoint(new_checkpoint("e", 0, output_data=big))
        execution = await store.load_execution("e")
        assert execution is not None
        assert execution.input_data == big
        assert [one.output_data for one in await store.load_checkpoints("e")] == [big]

    @over_a_store
    async def test_no_data_and_null_and_empty_text_are_kept_apart(
        self, store: CheckpointStore
    ) -> None:
        await store.save_execution(new_execution("e"))
        kinds = [None, "null", '""']
        for index, data in enumerate(kinds):
            await store.save(
                new_execution(f"e{index}", input_data=data, output_data=data),
                new_checkpoint("e", index, output_data=data),
                new_signal("e", "go", payload=data),
            )
            execution = await store.load_execution(f"e{index}")
            assert execution is not None
            assert (execution.input_data, execution.output_data) == (data, data)
        assert [one.output_data for one in await store.load_checkpoints("e")] == kinds
        assert [one.payload for one in await store.load_pending_signals("e")] == kinds

    @over_a_store
    async def test_data_that_is_no_json_is_refused(self, store: CheckpointStore) -> None:
        await store.save_execution(new_execution("e"))
        for text in ("", "kim", "{", "[1, 2", "NaN"):
            for record in (
                new_execution("other", input_data=text),
                new_execution("other", output_data=text),
                new_checkpoint("e", 0, output_data=text),
                new_signal("e", "go", payload=text),
            ):
                with pytest.raises(SerializationError, match="json"):
                    await store.save(record)
        assert await store.load_execution("other") is None
        assert await store.load_checkpoints("e") == []
        assert await store.load_pending_signals("e") == []

    # Saving again

    @over_a_store
    async def test_saving_under_the_same_key_updates(self, store: CheckpointStore) -> None:
        await store.save_workflow(Workflow(workflow_id="order:1", workflow_type="x", version=2))
        workflow = await store.load_workflow("order:1")
        assert workflow is not None
        assert (workflow.workflow_type, workflow.version) == ("x", 2)

        await store.save_execution(new_execution("e"))
        changed = execution_with_everything("e", status=ExecutionStatus.SUSPENDED)
        await store.save_execution(changed)
        assert await store.load_execution("e") == changed
        await store.save_execution(new_execution("e", created_at=NOON, updated_at=NOON))
        assert await store.load_execution("e") == new_execution(
            "e", created_at=NOON, updated_at=NOON
        )

        await store.save_timer(new_timer("e", "t", NOON))
        await store.save_timer(new_timer("e", "t", NOON + MINUTE))
        assert await store.load_timers("e") == [new_timer("e", "t", NOON + MINUTE)]

        signal = await store.save_signal(new_signal("e", "go", created_at=NOON))
        again = new_signal("e", "go", payload="2", created_at=NOON, id=signal.workflow_signal_id)
        assert await store.save_signal(again) == again
        assert await store.load_pending_signals("e") == [again]

    @over_a_store
    async def test_a_checkpoint_that_is_saved_again_keeps_its_id(
        self, store: CheckpointStore
    ) -> None:
        await store.save_execution(new_execution("e"))
        await store.save_checkpoints([new_checkpoint("e", 0), new_checkpoint("e", 1)])
        before = await store.load_checkpoints("e")
        changed = checkpoint_with_everything("e", 0)
        await store.save_checkpoint(changed)
        after = await store.load_checkpoints("e")
        assert without_ids(after) == [changed, new_checkpoint("e", 1)]
        assert [one.id for one in after] == [one.id for one in before]
        assert len({one.id for one in after} - {None}) == 2

    @over_a_store
    async def test_a_checkpoint_that_was_loaded_can_be_saved(self, store: CheckpointStore) -> None:
        await store.save(new_execution("e"), new_checkpoint("e", 0))
        loaded = await store.load_checkpoints("e")
        await store.save_checkpoints(loaded)
        assert await store.load_checkpoints("e") == loaded

    @over_a_store
    async def test_an_outcome_is_recorded_with_its_event(self, store: CheckpointStore) -> None:
        claim = await store.create_execution(WORKFLOW, new_execution("e"))
        assert claim is not None
        ways: list[tuple[StepKind, StepStatus, dict[str, Any]]] = [
            (StepKind.STEP, StepStatus.COMPLETED, {"event": 3, "output_data": "1"}),
            (StepKind.STEP, StepStatus.COMPLETED, {"event": 1, "idempotency_key": "k"}),
            (StepKind.STEP, StepStatus.FAILED, {"event": 2, "error_type": "a:B"}),
            (StepKind.STEP, StepStatus.FAILED, {"due_at": NOON}),
            (StepKind.SLEEP, StepStatus.COMPLETED, {"event": 4, "due_at": NOON}),
            (StepKind.SIGNAL, StepStatus.FAILED, {"event": 5, "due_at": NOON}),
        ]
        outcomes = [
            new_checkpoint(
                "e", index, kind=kind, status=status, started_at=NOON, completed_at=NOON, **fields
            )
            for index, (kind, status, fields) in enumerate(ways)
        ]
        for outcome in outcomes:
            began = new_checkpoint("e", outcome.step_index, kind=outcome.kind, started_at=NOON)
            await store.save(began, claim=claim)
            await store.save(outcome, claim=claim)
        assert without_ids(await store.load_checkpoints("e")) == outcomes

    @over_a_store
    async def test_an_event_that_is_taken_back_is_none(self, store: CheckpointStore) -> None:
        heard = new_checkpoint(
            "e", 0, status=StepStatus.FAILED, started_at=NOON, completed_at=NOON, event=1
        )
        again = new_checkpoint(
            "e", 0, status=StepStatus.FAILED, started_at=NOON, completed_at=NOON, due_at=NOON
        )
        await store.save(new_execution("e"), heard)
        await store.save_checkpoint(again)
        assert without_ids(await store.load_checkpoints("e")) == [again]

    @over_a_store
    async def test_a_compensated_step_keeps_its_completed_checkpoint(
        self, store: CheckpointStore
    ) -> None:
        completed = new_checkpoint("e", 0, status=StepStatus.COMPLETED, output_data='"paid"')
        undone = new_checkpoint(
            "e", 0, name="step 0:compensate", attempt=0, status=StepStatus.COMPENSATED
        )
        await store.save(new_execution("e"), completed)
        await store.save_checkpoint(undone)
        assert without_ids(await store.load_checkpoints("e")) == [undone, completed]

    # Order

    @over_a_store
    async def test_checkpoints_come_by_branch_index_and_attempt(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_execution("other"))
        order = [
            (branch, index, attempt)
            for branch in ("", "a", "b")
            for index in (0, 2, 9, 10, 100)
            for attempt in (0, 1, 2, 10)
        ]
        for branch, index, attempt in sorted(order, key=hash):
            await store.save_checkpoint(
                new_checkpoint("e", index, branch=branch, attempt=attempt, name="s")
            )
        await store.save_checkpoint(new_checkpoint("other", 1))
        found = await store.load_checkpoints("e")
        assert [(one.branch, one.step_index, one.attempt) for one in found] == order

    @over_a_store
    async def test_executions_come_by_status_in_the_order_of_creation(
        self, store: CheckpointStore
    ) -> None:
        for minutes, status in ((3, "RUNNING"), (1, "RUNNING"), (2, "FAILED"), (0, "PENDING")):
            await store.save_execution(
                new_execution(
                    f"at {minutes}",
                    status=ExecutionStatus(status),
                    created_at=NOON + minutes * MINUTE,
                    updated_at=NOON,
                )
            )

        async def ids(*statuses: ExecutionStatus) -> list[str]:
            found = await store.load_executions_by_status(statuses)
            return [one.workflow_execution_id for one in found]

        assert await ids(ExecutionStatus.RUNNING) == ["at 1", "at 3"]
        assert await ids(ExecutionStatus.FAILED, ExecutionStatus.RUNNING) == [
            "at 1",
            "at 2",
            "at 3",
        ]
        assert await ids(ExecutionStatus.RUNNING, ExecutionStatus.RUNNING) == ["at 1", "at 3"]
        assert await ids(*ExecutionStatus) == ["at 0", "at 1", "at 2", "at 3"]
        assert await ids(ExecutionStatus.COMPLETED) == []
        assert await ids() == []

    @over_a_store
    async def test_timers_come_by_deadline(self, store: CheckpointStore) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        elsewhere = NOON.astimezone(timezone(timedelta(hours=-8)))
        timers = [
            new_timer("e", "z", NOON - MINUTE),
            new_timer("f", "other", elsewhere),
            new_timer("e", "y", NOON + timedelta(microseconds=1)),
            new_timer("e", "a", NOON + MINUTE, status=TimerStatus.FIRED),
            new_timer("e", "b", NOON + 2 * MINUTE, status=TimerStatus.CANCELLED),
            new_timer("e", "x", NOON + 3 * MINUTE),
        ]
        for timer in reversed(timers):
            await store.save_timer(timer)
        assert await store.load_pending_timers() == [timers[0], timers[1], timers[2], timers[5]]
        assert await store.load_timers("e") == [timers[0], *timers[2:]]

    @over_a_store
    async def test_signals_come_in_the_order_of_arrival(self, store: CheckpointStore) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        arrived: list[WorkflowSignal] = []
        for number, name in enumerate(("go", "stop", "go")):
            # The later one says that it is older: arrival counts, and no clock.
            created_at = NOON - number * MINUTE
            arrived.append(await store.save_signal(new_signal("e", name, created_at=created_at)))
        await store.save_signal(new_signal("f", "go"))
        first, second, third = arrived
        ids = [one.workflow_signal_id or 0 for one in arrived]
        assert ids == sorted(set(ids))
        assert await store.load_pending_signals("e") == arrived
        assert await store.load_pending_signals("e", "go") == [first, third]
        assert await store.load_pending_signals("e", "stop") == [second]
        assert await store.load_pending_signals("e", "STOP") == []

        await store.save_signal(
            new_signal(
                "e",
                "go",
                created_at=NOON,
                status=SignalStatus.DELIVERED,
                id=first.workflow_signal_id,
            )
        )
        assert await store.load_pending_signals("e", "go") == [third]
        assert await store.load_pending_signals("e") == [second, third]

    @over_a_store
    async def test_the_next_signals_are_the_first_pending_one_of_each_name(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        await store.save_signal(new_signal("f", "go"))
        await store.save_signal(new_signal("e", "go", status=SignalStatus.DELIVERED))
        await store.save_signal(new_signal("e", "go", status=SignalStatus.EXPIRED))
        # The later ones say that they are older: arrival counts, and no clock.
        stop = await store.save_signal(new_signal("e", "stop", created_at=NOON))
        first = await store.save_signal(new_signal("e", "go", created_at=NOON - MINUTE))
        second = await store.save_signal(
            new_signal("e", "go", payload="2", created_at=NOON - 2 * MINUTE)
        )
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

        taken = new_signal(
            "e",
            "go",
            created_at=NOON,
            status=SignalStatus.DELIVERED,
            id=first.workflow_signal_id,
        )
        await store.save_signal(taken)
        assert await store.load_next_signals("e", ["go", "stop"]) == [stop, second]

    @over_a_store
    async def test_a_refused_signal_says_why_and_is_pending_no_more(
        self, store: CheckpointStore
    ) -> None:
        await store.save_execution(new_execution("e"))
        sent = await store.save_signal(new_signal("e", "go", payload="7", created_at=NOON))
        refused = new_signal(
            "e",
            "go",
            payload="7",
            created_at=NOON,
            status=SignalStatus.REFUSED,
            refused_reason="it is not a string",
            id=sent.workflow_signal_id,
        )
        assert await store.save_signal(refused) == refused
        assert await store.load_pending_signals("e") == []
        assert await store.load_next_signals("e", ["go"]) == []
        assert await store.delete_old_signals(NOON + MINUTE) == 1

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
    async def test_the_id_of_a_signal_is_never_used_again(self, store: CheckpointStore) -> None:
        await store.save_execution(new_execution("e"))
        seen: list[int] = []
        for _ in range(3):
            saved = await store.save_signal(new_signal("e", "go", status=SignalStatus.DELIVERED))
            assert saved.workflow_signal_id is not None
            seen.append(saved.workflow_signal_id)
            assert await store.delete_old_signals(datetime.now(UTC) + MINUTE) == 1
        assert seen == sorted(set(seen))

    # All or nothing

    @over_a_store
    async def test_any_mix_of_records_is_saved_at_once(self, store: CheckpointStore) -> None:
        workflow = Workflow(workflow_id="w2", workflow_type="w", created_at=NOON)
        execution = new_execution("e", workflow_id="w2", created_at=NOON, updated_at=NOON)
        checkpoint, timer = new_checkpoint("e", 0), new_timer("e", "t", NOON)
        await store.save(workflow, execution, checkpoint, timer, new_signal("e", "go"))
        assert await store.load_workflow("w2") == workflow
        assert await store.load_execution("e") == execution
        assert without_ids(await store.load_checkpoints("e")) == [checkpoint]
        assert await store.load_timers("e") == [timer]
        assert len(await store.load_pending_signals("e")) == 1

    @over_a_store
    async def test_saving_nothing_is_harmless(self, store: CheckpointStore) -> None:
        await store.save()
        await store.save_checkpoints([])
        await store.release_claims([])

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
            (new_execution("over", status=ExecutionStatus.RUNNING), ExecutionConflictError),
        ):
            for records in ([*good, bad], [bad, *good], [*good[:3], bad, *good[3:]]):
                with pytest.raises(error):
                    await store.save(*records)
                assert await store.load_workflow("w2") is None
                assert await store.load_execution("new") is None
                execution = await store.load_execution("e")
                assert execution is not None
                assert execution.status is ExecutionStatus.PENDING
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
        with pytest.raises(StoreError):
            await store.save_signal(new_signal("unknown", "go"))
        assert await store.load_execution("e") is None
        await nothing_belongs_to(store, "unknown")

    @over_a_store
    async def test_of_many_saves_at_once_only_the_one_that_fails_fails(
        self, store: CheckpointStore
    ) -> None:
        await store.save_execution(new_execution("e"))
        outcomes = await asyncio.gather(
            *(
                store.save_checkpoint(new_checkpoint("unknown" if index == 50 else "e", index))
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
            final = new_execution(f"e {status}", status=status, output_data="1")
            await store.save_execution(final)
            for late in ExecutionStatus:
                with pytest.raises(ExecutionConflictError) as raised:
                    await store.save_execution(
                        new_execution(f"e {status}", status=late, output_data="2")
                    )
                assert raised.value.workflow_execution_id == f"e {status}"
                assert await store.load_execution(f"e {status}") == final

    @over_a_store
    async def test_saving_a_final_execution_again_as_it_is_is_harmless(
        self, store: CheckpointStore
    ) -> None:
        for status in FINAL:
            final = execution_with_everything(f"e {status}", status=status)
            await store.save_execution(final)
            await store.save(final, new_checkpoint(f"e {status}", 0))
            assert await store.load_execution(f"e {status}") == final
            assert len(await store.load_checkpoints(f"e {status}")) == 1

    @over_a_store
    async def test_nothing_is_due_and_no_signal_waits_for_a_final_execution(
        self, store: CheckpointStore
    ) -> None:
        for status in FINAL:
            await store.save(
                new_execution("bystander"),
                new_execution(status),
                *(new_timer(one, f"{status}.{one}", NOON) for one in (status, "bystander")),
                new_timer(status, f"{status}.fired", NOON + MINUTE, status=TimerStatus.FIRED),
                *(new_signal(one, status) for one in (status, "bystander")),
            )
            await store.save_execution(new_execution(status, status=status))
            assert [timer.status for timer in await store.load_timers(status)] == [
                TimerStatus.CANCELLED,
                TimerStatus.FIRED,
            ]
            assert await store.load_pending_signals(status) == []
            assert len(await store.load_pending_signals("bystander", status)) == 1
        assert {timer.workflow_execution_id for timer in await store.load_pending_timers()} == {
            "bystander"
        }
