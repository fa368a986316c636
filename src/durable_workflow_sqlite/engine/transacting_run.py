"""What a run writes together with the tables of the user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from durable_workflow_sqlite.engine.history import event_of
from durable_workflow_sqlite.engine.loop_backoff import SAVE_AGAIN_AFTER_S, LoopBackoff, wait_for
from durable_workflow_sqlite.engine.run import Run
from durable_workflow_sqlite.engine.under_way import Pending
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.records import TRANSACTION_TIMEOUT, Record, StepCheckpoint


class Reserved(NamedTuple):
    """What an outcome gets before it is known, so that it is before all that is written later.

    completed_at: it has not completed before that.
    """

    event: int
    completed_at: datetime


class TransactingRun(Run):
    """A `Run` with steps that are recorded in the transaction in which they happen."""

    __slots__ = ()

    async def transact(
        self,
        pending: Pending,
        act: Callable[[Any, Reserved], StepCheckpoint],
        failed: Callable[[BaseException, Reserved], StepCheckpoint],
        *,
        timeout: timedelta,
        unless_signal: str | None,
        passed_over: Collection[int],
    ) -> StepCheckpoint | None:
        """Call `act` with the connection, and save what it gives, or what `failed` makes of it.

        Both are called in a thread, perhaps. None if there is a signal of that name, except those
        that are passed over: then nothing was called. What the store refuses can be had again; see
        `Run.save_taken`.
        """
        refused = LoopBackoff(f"run a transaction of execution {self.id!r}")
        while True:
            if self._waiting:
                await self._what_waits()
            along: tuple[Record, ...] = (*self.running(), *self._waiting)
            reserved = Reserved(self.numbers.take(pending), self.completion_time())
            outcomes: list[StepCheckpoint] = []

            def once(
                connection: Any,
                *,
                reserved: Reserved = reserved,
                outcomes: list[StepCheckpoint] = outcomes,
                along: tuple[Record, ...] = along,
            ) -> tuple[Record, ...]:
                outcomes.append(act(connection, reserved))
                return (outcomes[-1], *along)

            def else_(
                error: BaseException,
                *,
                reserved: Reserved = reserved,
                outcomes: list[StepCheckpoint] = outcomes,
                along: tuple[Record, ...] = along,
            ) -> tuple[Record, ...]:
                outcomes.append(failed(error, reserved))
                return (outcomes[-1], *along)

            try:
                is_done = await self.environment.store.transact(
                    once,
                    else_,
                    claim=self.claim,
                    timeout=timeout,
                    unless_signal=unless_signal,
                    passed_over=passed_over,
                )
            except BaseException as error:
                if not self._waits_out(error, self._kept, reserved.event):
                    raise
                refusal = error
            else:
                break
            assert isinstance(refusal, StoreError)
            self.tell_whoever_waits(refusal)
            self._is_stopping = self._is_stopping or asyncio.Event()
            await wait_for(self._is_stopping, refused.failed(refusal, SAVE_AGAIN_AFTER_S))
            if self.trouble is not None:
                raise asyncio.CancelledError  # the engine stops, whoever heard of it
        refused.succeeded()
        if not is_done:
            self.numbers.give_back(reserved.event)
            return None
        outcome = outcomes[-1]
        if along:
            self._saved(along)
        if outcome.event is None:
            self.numbers.give_back(reserved.event)
        else:
            self._written(pending, outcome)
        if outcome.completed_at is not None:
            self._last_completed_at = max(
                outcome.completed_at, self._last_completed_at or outcome.completed_at
            )
        return outcome

    async def save_unless_signal(
        self, signal_name: str, pending: Pending, outcome: StepCheckpoint, *along: Record
    ) -> bool:
        """As `save_taken`; False if there is a signal of that name: then nothing was written."""
        if self._waiting:
            along = (*along, *await self._what_waits())

        def raise_(error: BaseException) -> tuple[Record, ...]:
            raise error

        try:
            is_saved = await self.environment.store.transact(
                lambda _: (outcome, *along),
                raise_,
                claim=self.claim,
                timeout=TRANSACTION_TIMEOUT,
                unless_signal=signal_name,
            )
        except BaseException as error:
            self._waits_out(error, self._kept, event_of(outcome))
            raise
        if not is_saved:
            self.numbers.give_back(event_of(outcome))
            return False
        self._saved(along)
        self._written(pending, outcome)
        return True
