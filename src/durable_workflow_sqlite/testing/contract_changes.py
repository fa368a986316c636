"""The store contract: what others have written is noticed."""

from __future__ import annotations

import pytest

from durable_workflow_sqlite import (
    ArrivedSignal,
    CheckpointStore,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    NewExecution,
    WorkflowSignal,
)
from durable_workflow_sqlite.testing.contract_base import (
    FINAL,
    NOON,
    UNFINISHED,
    WORKFLOW,
    OpenAnother,
    StoreContract,
    has_news,
    new_audit_entry,
    new_execution,
    new_signal,
    over_a_store,
    over_workers,
    queued,
    send,
)


class ChangesContract(StoreContract):
    """Which worker notices which change."""

    @over_a_store
    async def test_a_signal_is_sent_to_every_execution_that_is_not_final(
        self, store: CheckpointStore
    ) -> None:
        sent: list[int | None] = []
        for status in UNFINISHED:
            await store.save(new_execution(status, status=status))
            signal = await send(store, new_signal(status, "go", payload="1"))
            assert await store.load_pending_signals(status, "go") == [signal]
            sent.append(signal.workflow_signal_id)
        assert len(set(sent) - {None}) == len(UNFINISHED)
        arrived = await store.load_signals_after(0)
        assert [one.workflow_execution_id for one in arrived] == list(UNFINISHED)
        assert [one.workflow_signal_id for one in arrived] == sent

    @over_a_store
    async def test_a_signal_to_an_unknown_or_final_execution_is_refused(
        self, store: CheckpointStore
    ) -> None:
        with pytest.raises(ExecutionNotFoundError) as unknown:
            await store.send_signal(new_signal("unknown", "go"))
        assert unknown.value.workflow_execution_id == "unknown"
        for status in FINAL:
            await store.save(new_execution(status, status=status))
            entry = new_audit_entry("note", status)
            with pytest.raises(ExecutionFinishedError) as final:
                await store.send_signal(new_signal(status, "go"), entry)
            assert (final.value.workflow_execution_id, final.value.status) == (status, status)
            assert await store.load_audit_log(status) == []
            assert await store.load_signals(status) == []
        assert await store.load_signals_after(0) == []

    @over_a_store
    async def test_each_signal_is_news_once(self, store: CheckpointStore) -> None:
        await store.save(new_execution("e"), new_execution("f"))
        assert await store.load_last_signal_id() == 0
        first = await send(store, new_signal("e", "go"))
        second = await send(store, new_signal("e", "on"))
        assert await store.load_signals_after(0) == [_arrived(first), _arrived(second)]
        third = await send(store, new_signal("f", "go"))
        seen = second.workflow_signal_id
        assert seen is not None
        assert await store.load_signals_after(seen) == [_arrived(third)]
        assert await store.load_last_signal_id() == third.workflow_signal_id

    @over_a_store
    async def test_statuses_are_loaded_of_many_at_once(self, store: CheckpointStore) -> None:
        await store.save(*(new_execution(status, status=status) for status in ExecutionStatus))
        wanted = [*ExecutionStatus, "unknown"]
        assert await store.load_statuses(wanted) == {status: status for status in ExecutionStatus}
        assert await store.load_statuses([]) == {}

    @over_a_store
    async def test_those_that_are_blocked_or_in_trouble_are_found(
        self, store: CheckpointStore
    ) -> None:
        await store.save(
            new_execution("blocked", blocked_reason="killed its workers"),
            new_execution("troubled", trouble="TypeError: why"),
            new_execution("fine"),
        )
        wanted = ["blocked", "troubled", "fine", "unknown"]
        assert await store.load_stopped(wanted) == {"blocked", "troubled"}
        assert await store.load_stopped([]) == set()

    @over_a_store
    async def test_there_is_news_when_a_signal_or_work_came_through_this_store(
        self, store: CheckpointStore
    ) -> None:
        await store.save(new_execution("e"))
        child = NewExecution(workflow=WORKFLOW, execution=queued("child", NOON))
        heard = {store.change_counter()}
        await store.send_signal(new_signal("e", "go"))
        heard.add(store.change_counter())
        await store.save(new_signal("e", "go"))
        heard.add(store.change_counter())
        await store.request_cancel("e")
        heard.add(store.change_counter())
        await store.enqueue_execution(WORKFLOW, new_execution("f", available_at=NOON))
        heard.add(store.change_counter())
        await store.save(start=[child])
        heard.add(store.change_counter())
        await store.save(send=[new_signal("child", "go")])
        heard.add(store.change_counter())
        assert len(heard) == 7

    @over_workers
    async def test_there_is_news_when_another_worker_wrote(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.save(new_execution("e"))
        for _ in range(3):
            before = store.change_counter()
            assert store.change_counter() == before
            await other.send_signal(new_signal("e", "go"))
            assert await has_news(store, before)
        before = store.change_counter()
        child = NewExecution(workflow=WORKFLOW, execution=queued("child", NOON))
        await other.save(start=[child])
        assert await has_news(store, before)

    @over_workers
    async def test_a_worker_sees_at_once_what_another_wrote(
        self, store: CheckpointStore, open_another: OpenAnother
    ) -> None:
        other = await open_another()
        await store.save(new_execution("e"))
        signal = await send(other, new_signal("e", "go"))
        assert await store.load_pending_signals("e") == [signal]
        await store.save(new_execution("e", status=ExecutionStatus.RUNNING))
        assert await other.load_statuses(["e"]) == {"e": ExecutionStatus.RUNNING}


def _arrived(signal: WorkflowSignal) -> ArrivedSignal:
    assert signal.workflow_signal_id is not None
    return ArrivedSignal(
        workflow_signal_id=signal.workflow_signal_id,
        workflow_execution_id=signal.workflow_execution_id,
        signal_name=signal.signal_name,
    )
