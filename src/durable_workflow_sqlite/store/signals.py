"""Signals: sent, received, and noticed by other workers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

import msgspec

from durable_workflow_sqlite.questions import Question
from durable_workflow_sqlite.records import (
    CANCEL_SIGNAL,
    ArrivedSignal,
    SignalStatus,
    StepCheckpoint,
    WorkflowClaim,
    WorkflowSignal,
    check_answer,
    check_identifier,
    check_sent,
    utc_now,
)
from durable_workflow_sqlite.store import executions, questions, rows
from durable_workflow_sqlite.store.claims import Claims
from durable_workflow_sqlite.store.moves import check_not_moved
from durable_workflow_sqlite.store.pauses import Pauses
from durable_workflow_sqlite.store.queries import (
    LoadKeyedSignalRow,
    LoadSignalsAfterRow,
    Queries,
)
from durable_workflow_sqlite.store.rows import json_array, time_to_text
from durable_workflow_sqlite.store.transactions import Transactions


class Signals:
    """The messages to executions."""

    def __init__(
        self,
        connection: object,
        queries: Queries,
        commit: Transactions,
        claims: Claims,
        pauses: Pauses,
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._claims = claims
        self._pauses = pauses

    async def save_new(self, signal: WorkflowSignal) -> WorkflowSignal:
        check_sent(signal)
        signal_id = await self._commit.write(lambda: self._insert(signal))
        return msgspec.structs.replace(signal, workflow_signal_id=signal_id)

    async def send(self, signal: WorkflowSignal, save: Callable[[], None]) -> WorkflowSignal | None:
        """`save` is called in the same transaction."""
        check_sent(signal)

        def send_and_save() -> int | None:
            signal_id = self._send(signal)
            if signal_id is not None:
                save()
            return signal_id

        signal_id = await self._commit.write(send_and_save)
        if signal_id is None:
            return None
        return msgspec.structs.replace(signal, workflow_signal_id=signal_id)

    async def answer(
        self, signal: WorkflowSignal, save: Callable[[], None]
    ) -> WorkflowSignal | None:
        """`save` is called in the same transaction."""
        check_answer(signal)

        def answer_and_save() -> int | None:
            self._commit.hold_execution(signal.workflow_execution_id)
            signal_id = self._queries.answer_question(
                self._connection,
                workflow_execution_id=signal.workflow_execution_id,
                signal_name=signal.signal_name,
                payload=signal.payload,
                created_at=time_to_text(signal.created_at),
                signal_key=signal.signal_key,
            )
            if signal_id is not None:
                self._commit.count_change()
                save()
            return signal_id

        signal_id = await self._commit.write(answer_and_save)
        if signal_id is None:
            return None
        return msgspec.structs.replace(signal, workflow_signal_id=signal_id)

    async def load_questions(
        self, to: str | None, workflow_execution_id: str | None, limit: int
    ) -> list[Question]:
        questions.check_wanted(to, workflow_execution_id, limit)
        found = await self._commit.read(
            lambda: questions.load_questions(
                self._connection, self._queries, to, workflow_execution_id, limit
            )
        )
        return list(map(questions.question_from, found))

    async def request_cancel(
        self, workflow_execution_id: str, save: Callable[[], None], now: datetime | None
    ) -> WorkflowSignal | None:
        """`save` is called in the same transaction."""
        check_identifier("workflow_execution_id", workflow_execution_id)
        at = now or utc_now()

        def request() -> int | None:
            self._commit.hold_execution(workflow_execution_id)
            signal_id = self._queries.request_cancel(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                cancel_signal=CANCEL_SIGNAL,
                created_at=time_to_text(at),
            )
            if signal_id is None:
                found = executions.load_execution(
                    self._connection, self._queries, workflow_execution_id
                )
                if found is None:
                    raise executions.not_found(workflow_execution_id)
                if found.status.is_terminal:
                    raise executions.finished(found, "it was not asked to cancel")
                return None
            self._commit.count_change()
            save()
            if self._pauses.end_pause_of(workflow_execution_id):
                self._pauses.put_back(workflow_execution_id, at)
            return signal_id

        signal_id = await self._commit.write(request)
        if signal_id is None:
            return None
        return WorkflowSignal(
            workflow_signal_id=signal_id,
            workflow_execution_id=workflow_execution_id,
            signal_name=CANCEL_SIGNAL,
            created_at=at,
        )

    async def load_keyed(
        self, workflow_execution_id: str, signal_key: str
    ) -> WorkflowSignal | None:
        check_identifier("workflow_execution_id", workflow_execution_id)
        check_identifier("the key of a signal", signal_key)
        row = await self._commit.read(lambda: self._load_keyed(workflow_execution_id, signal_key))
        if row is None:
            return None
        return rows.keyed_signal_from(row, workflow_execution_id, signal_key)

    async def load_pending(
        self, workflow_execution_id: str, signal_name: str | None = None
    ) -> list[WorkflowSignal]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        found = await self._commit.read(
            lambda: self._queries.load_pending_signals(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                signal_name=signal_name,
            )
        )
        return [rows.signal_from(row) for row in found]

    async def load_all(self, workflow_execution_id: str) -> list[WorkflowSignal]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        found = await self._commit.read(
            lambda: self._queries.load_signals(
                self._connection, workflow_execution_id=workflow_execution_id
            )
        )
        return [rows.signal_from(row) for row in found]

    async def load_next(
        self, workflow_execution_id: str, signal_names: Collection[str]
    ) -> list[WorkflowSignal]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        names = json_array(signal_names)
        found = await self._commit.read(
            lambda: self._queries.load_next_signals(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                signal_names=names,
            )
        )
        return [rows.signal_from(row) for row in found]

    async def load_open_waits(
        self, workflow_execution_id: str, signal_name: str
    ) -> list[StepCheckpoint]:
        check_identifier("workflow_execution_id", workflow_execution_id)
        check_identifier("signal_name", signal_name)
        found = await self._commit.read(
            lambda: self._queries.load_open_waits(
                self._connection,
                workflow_execution_id=workflow_execution_id,
                signal_name=signal_name,
            )
        )
        found.sort(key=lambda row: (row.branch, row.step_index))
        return [rows.checkpoint_from(row) for row in found]

    async def load_last_id(self) -> int:
        last = await self._commit.read(lambda: self._queries.load_last_signal_id(self._connection))
        return last or 0

    async def load_after(self, signal_id: int) -> list[ArrivedSignal]:
        def load() -> list[LoadSignalsAfterRow]:
            check_not_moved(self._connection, self._queries, "the database")
            return self._queries.load_signals_after(self._connection, workflow_signal_id=signal_id)

        found = await self._commit.read(load)
        return [
            ArrivedSignal(
                workflow_signal_id=row.workflow_signal_id,
                workflow_execution_id=row.workflow_execution_id,
                signal_name=row.signal_name,
            )
            for row in found
        ]

    def upsert(self, signal: WorkflowSignal, claim: WorkflowClaim | None) -> int:
        if signal.workflow_signal_id is None:
            if claim is not None and not self._claims.holds(claim):
                return 0
            return self._insert(signal)
        token = None if claim is None else claim.fencing_token
        if signal.status is SignalStatus.REFUSED and self._queries.refuse_signal(
            self._connection,
            refused_reason=signal.refused_reason,
            workflow_signal_id=signal.workflow_signal_id,
            workflow_execution_id=signal.workflow_execution_id,
            fencing_token=token,
        ):
            return 1
        return self._queries.upsert_signal(
            self._connection,
            workflow_signal_id=signal.workflow_signal_id,
            workflow_execution_id=signal.workflow_execution_id,
            signal_name=signal.signal_name,
            payload=signal.payload,
            status=signal.status.value,
            created_at=time_to_text(signal.created_at),
            refused_reason=signal.refused_reason,
            signal_key=signal.signal_key,
            fencing_token=token,
        )

    def send_if_it_can(self, signal: WorkflowSignal) -> int | None:
        """Called from within a transaction; None, and nothing written, if it is not to be sent."""
        signal_id = self._queries.send_signal(
            self._connection,
            workflow_execution_id=signal.workflow_execution_id,
            signal_name=signal.signal_name,
            payload=signal.payload,
            created_at=time_to_text(signal.created_at),
            signal_key=signal.signal_key,
        )
        if signal_id is not None:
            self._commit.count_change()
        return signal_id

    def are_pending(
        self, claim: WorkflowClaim, signal_name: str, passed_over: Collection[int]
    ) -> bool:
        """Whether there are signals of a name; nobody sends one until the transaction ends.

        passed_over: the ids of those that do not count.
        """
        self._commit.hold_execution(claim.workflow_execution_id)
        found = self._queries.load_pending_signals(
            self._connection,
            workflow_execution_id=claim.workflow_execution_id,
            signal_name=signal_name,
        )
        return any(one.workflow_signal_id not in passed_over for one in found)

    def _send(self, signal: WorkflowSignal) -> int | None:
        """None if there is one of its key, also in an execution that is final by now."""
        signal_id, execution_id = self.send_if_it_can(signal), signal.workflow_execution_id
        if signal_id is None:
            key = signal.signal_key
            if key is not None and self._load_keyed(execution_id, key) is not None:
                return None
            unsent = f"the signal {signal.signal_name!r} was not sent"
            found = executions.load_execution(self._connection, self._queries, execution_id)
            if found is None:
                raise executions.not_found(execution_id, unsent)
            raise executions.finished(found, unsent)
        return signal_id

    def _load_keyed(self, execution_id: str, key: str) -> LoadKeyedSignalRow | None:
        return self._queries.load_keyed_signal(
            self._connection, workflow_execution_id=execution_id, signal_key=key
        )

    def _insert(self, signal: WorkflowSignal) -> int:
        signal_id = self._queries.insert_signal(
            self._connection,
            workflow_execution_id=signal.workflow_execution_id,
            signal_name=signal.signal_name,
            payload=signal.payload,
            status=signal.status.value,
            created_at=time_to_text(signal.created_at),
            refused_reason=signal.refused_reason,
            signal_key=signal.signal_key,
        )
        assert signal_id is not None  # an insert of values returns its row
        self._commit.count_change()
        return signal_id
