"""The store contract: what is refused, and closing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from durable_workflow_sqlite import (
    CheckpointStore,
    ExecutionStatus,
    NewExecution,
    Schedule,
    StepStatus,
    StoreError,
)
from durable_workflow_sqlite.testing.contract_base import (
    NOON,
    ORDER,
    WORKFLOW,
    StoreContract,
    created,
    loaded,
    new_checkpoint,
    new_execution,
    new_signal,
    over_a_store,
    queued,
    taken,
)


class LimitsContract(StoreContract):
    """Bad arguments, and a store that is closed."""

    @over_a_store
    async def test_bad_arguments_are_refused_at_the_call(self, store: CheckpointStore) -> None:
        ask: Any = store
        execution = new_execution("e", status=ExecutionStatus.COMPLETED, updated_at=NOON)
        await store.save(execution)
        calls: list[tuple[Callable[[], Awaitable[object]], type[Exception]]] = [
            (lambda: ask.save("no record"), TypeError),
            (lambda: ask.save(None), TypeError),
            (lambda: ask.save({"workflow_execution_id": "x"}), TypeError),
            (lambda: ask.load_workflow(""), ValueError),
            (lambda: ask.load_execution(""), ValueError),
            (lambda: ask.load_execution(None), TypeError),
            (lambda: ask.load_checkpoints(" e"), ValueError),
            (lambda: ask.take_execution(""), ValueError),
            (lambda: ask.load_pending_signals("e\n"), ValueError),
            (lambda: ask.load_signals(7), TypeError),
            (lambda: ask.load_next_signals("", ["go"]), ValueError),
            (lambda: ask.load_open_waits("e", ""), ValueError),
            (lambda: ask.load_questions(""), ValueError),
            (lambda: ask.load_questions(workflow_execution_id=""), ValueError),
            (lambda: ask.load_questions(limit=0), ValueError),
            (lambda: ask.answer_question(new_signal("e", "go")), ValueError),
            (lambda: ask.load_keyed_signal("", "mail"), ValueError),
            (lambda: ask.load_keyed_signal("e", ""), ValueError),
            (lambda: ask.send_signal(new_signal("e", "$cancle")), ValueError),
            (lambda: ask.send_signal(new_signal("e", "$CANCEL")), ValueError),
            (lambda: ask.request_cancel(""), ValueError),
            (lambda: ask.claim_execution(""), ValueError),
            (lambda: ask.claim_available(ORDER, 0), ValueError),
            (lambda: ask.load_unregistered([], 0), ValueError),
            (lambda: ask.unblock_execution(""), ValueError),
            (lambda: ask.acknowledge(""), ValueError),
            (lambda: ask.load_schedule(""), ValueError),
            (lambda: ask.delete_schedule(None), TypeError),
            (lambda: ask.load_unfinished_of_schedule(" s"), ValueError),
        ]
        for call, error in calls:
            with pytest.raises(error):
                await call()
        assert await loaded(store, "e") == execution
        assert await store.load_signals("e") == []

    @over_a_store
    async def test_a_closed_store_refuses_everything(self, store: CheckpointStore) -> None:
        claim = await created(store, new_execution("e"))
        seen = await taken(store, "e")
        child = NewExecution(workflow=WORKFLOW, execution=queued("child", NOON))
        schedule = Schedule(schedule_name="s", workflow_type="order", every_seconds=60)
        await store.close()
        await store.close()
        ended = new_checkpoint("e", 0, status=StepStatus.COMPLETED, event=1)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.save(WORKFLOW),
            lambda: store.save(new_checkpoint("e", 0), claim=claim),
            lambda: store.save(start=[child]),
            lambda: store.begin_step(new_checkpoint("e", 0), claim=claim),
            lambda: store.finish_step(ended, claim=claim),
            lambda: store.load_workflow("order:1"),
            store.load_workflows,
            lambda: store.load_execution("e"),
            lambda: store.load_checkpoints("e"),
            lambda: store.take_execution("e"),
            lambda: store.send_signal(new_signal("e", "go")),
            lambda: store.request_cancel("e"),
            lambda: store.load_pending_signals("e"),
            lambda: store.load_signals("e"),
            lambda: store.load_next_signals("e", ["go"]),
            lambda: store.load_open_waits("e", "go"),
            store.load_questions,
            lambda: store.answer_question(new_signal("e", "$answer:go@1.0")),
            lambda: store.load_keyed_signal("e", "mail"),
            store.load_last_signal_id,
            lambda: store.load_signals_after(0),
            lambda: store.load_statuses(["e"]),
            lambda: store.load_stopped(["e"]),
            lambda: store.create_execution(WORKFLOW, new_execution("f")),
            lambda: store.claim_execution("e"),
            lambda: store.release_claims([claim]),
            lambda: store.release_claims_of_the_dead(0),
            lambda: store.mark_as_stopping([claim]),
            lambda: store.join(ORDER, 1),
            lambda: store.enqueue_execution(WORKFLOW, new_execution("f")),
            lambda: store.claim_available(ORDER, 1),
            lambda: store.load_next_available_at(ORDER),
            lambda: store.put_into_queue(["e"]),
            lambda: store.release_created(new_execution("e")),
            store.load_unqueued_executions,
            lambda: store.load_unregistered([], 9),
            store.load_blocked,
            lambda: store.unblock_execution("e"),
            lambda: store.mend_execution(seen, seen.execution),
            lambda: store.acknowledge("e"),
            lambda: store.load_tags("e"),
            lambda: store.load_audit_log("e"),
            lambda: store.save_schedule(schedule, seen=None),
            lambda: store.delete_schedule("s"),
            lambda: store.load_schedule("s"),
            store.load_schedules,
            lambda: store.load_due_schedules(NOON),
            lambda: store.load_unfinished_of_schedule("s"),
        ]
        for call in calls:
            with pytest.raises(StoreError, match="closed"):
                await call()
