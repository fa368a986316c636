"""What a workflow function may ask for: a step, a sleep, a wait for a signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.doubt import Doubt
from durable_workflow_sqlite.engine.history import (
    Place,
    StepHistory,
    has_timed_out,
    place_in_words,
)
from durable_workflow_sqlite.engine.payloads import wanted
from durable_workflow_sqlite.engine.retry import RetryPolicy
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import StepCheckpoint, StepKind, StepStatus

OnCancel = Literal["finish", "stop"]


class Asked(msgspec.Struct, eq=False):
    """Where a workflow function asks for something, under which name, and what is recorded there.

    A class of its own: these come first, so that a `StepCall` is made by position. By name, it
    would take several times as long.
    """

    place: Place
    name: str
    history: StepHistory | None


class Operation(Asked, eq=False, kw_only=True):
    """Something that was asked for, and what has become of it.

    future: on which the workflow function waits for it.
    checkpoint: the outcome as it is stored (of a wait, its INTENT before that); `value` or `error`
        is what the function is told.
    """

    future: asyncio.Future[Any] | None = None
    checkpoint: StepCheckpoint | None = None
    value: Any = None
    error: BaseException | None = None
    is_recorded: bool = False
    """Whether its outcome is committed."""

    @property
    def kind(self) -> StepKind:
        raise NotImplementedError

    @property
    def runs_code_of_the_user(self) -> bool:
        """Whether reading a recorded outcome may: a class, or `deserialize`."""
        return False

    @property
    def is_recorded_before_it_begins(self) -> bool:
        """Whether there is a row of it before it can have an outcome."""
        return False

    @property
    def last(self) -> StepCheckpoint | None:
        """What was recorded last of it before."""
        return None if self.history is None else self.history.last

    def describe(self) -> str:
        return f"{self.kind.lower()} {self.name!r} ({place_in_words(self.place)})"


class StepCall(Operation, eq=False):
    """What `ctx.step` was called with."""

    action: Callable[..., Any]
    args: tuple[Any, ...]
    result_type: Any
    compensate: Callable[[Any], object] | None
    retry: RetryPolicy
    timeout: timedelta | None
    serialize: Callable[[Any], Any] | None
    deserialize: Callable[[Any], Any] | None
    compensate_retry: RetryPolicy
    on_cancel: OnCancel
    idempotency_key: str | None
    variables: Context
    """The context variables of its caller."""
    limit: str | None = None
    limit_key: str | None = None
    is_idempotent: bool = False
    """Whether only its outcome is recorded, and not its beginning."""
    doubt: Doubt | None = None
    """What is to become of it when it is in doubt, if it is not simply to run again."""
    fingerprint: str | None = None
    """What it was asked, as its records hold it."""

    task: asyncio.Task[Any] | None = None
    """Which performs it now."""
    interruptible: bool = False
    """Whether the task may be cancelled: an async action runs, or it pauses between attempts."""
    is_pausing: bool = False
    """Whether it waits for the time of its next attempt, or for a thread."""
    waits_for_thread: bool = False
    pauses_until: datetime | None = None
    """The time of its next attempt, while it waits for that."""
    has_begun: bool = False
    """Whether the action has been called in this attempt."""
    is_given_up: bool = False
    """Whether nobody waits for it any more: it begins nothing from now on."""
    was_cut_off: bool = False
    """Whether an attempt had begun, and was cancelled before it had an outcome."""
    late: tuple[asyncio.Future[Any], ...] = ()
    """Of its attempts that timed out, what goes on in threads, or has ended since."""
    unstorable: Any = None
    """A result that could not be stored, for the compensation; in a tuple."""

    @property
    def kind(self) -> StepKind:
        return StepKind.STEP

    @property
    def is_recorded_before_it_begins(self) -> bool:
        return not self.is_idempotent

    @property
    def runs_code_of_the_user(self) -> bool:
        return self.deserialize is not None or not serialization.is_plain(self.result_type)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing of it has begun, in this run or an earlier one."""
        return not self.has_begun and self.checkpoint is None and self.last is None

    @property
    def may_need_undoing(self) -> bool:
        """Whether it has taken effect, or may have."""
        if (outcome := self.checkpoint) is not None:
            has_taken_effect = outcome.status is StepStatus.COMPLETED
            return has_taken_effect or self.unstorable is not None or has_timed_out(outcome)
        return self.was_cut_off or (self.history is not None and self.history.is_in_doubt)

    @property
    def is_in_a_back_off(self) -> bool:
        """Whether it was waiting for its next attempt when an earlier run ended."""
        return self.history is not None and self.history.pauses

    def __str__(self) -> str:
        return f"the result of {self.describe()}"

    def give_up(self) -> None:
        """Begin nothing more of it, and cancel what can be cancelled of what goes on."""
        self.is_given_up = True
        if self.task is not None and self.interruptible:
            self.task.cancel()

    def encode(self, result: object) -> tuple[str, Any]:
        """A result as it is stored, and as it will be on a replay."""
        if self.serialize is not None:
            try:
                result = self.serialize(result)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise SerializationError(f"{self}: its serialize failed: {error!r}") from error
            if self.deserialize is None and self.result_type is not Any:
                output = serialization.to_json(result, self)
            else:
                output, _ = serialization.round_trip(result, Any, f"what serialize made of {self}")
        elif self.deserialize is not None:
            output = serialization.to_json(result, self)
        else:
            return serialization.round_trip(result, self.result_type, self)
        return output, self.decode(output)

    def decode(self, output: str | None) -> Any:
        result = serialization.from_json(output, self.result_type, self)
        if self.deserialize is None:
            return result
        try:
            return self.deserialize(result)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise SerializationError(f"{self}: its deserialize failed: {error!r}") from error


class TransactionCall(StepCall, eq=False):
    """What `ctx.transaction` was called with: its action also gets the connection of the store.

    It is idempotent, since it is recorded where it happens.
    """


class WaitCall(Operation, eq=False, kw_only=True):
    """What `ctx.sleep` or `ctx.wait_signal` was called with."""

    is_sleep: bool
    end: datetime | timedelta | None
    """When, or how long from the time that it is reached on; None for a wait without a timeout."""
    payload_type: Any = Any

    due_at: datetime | None = None

    @property
    def kind(self) -> StepKind:
        return StepKind.SLEEP if self.is_sleep else StepKind.SIGNAL

    @property
    def runs_code_of_the_user(self) -> bool:
        return not serialization.is_plain(self.payload_type)

    @property
    def input_data(self) -> str | None:
        """What its record tells people, and those who send to it."""
        return None if self.is_sleep else wanted(self.payload_type)

    @property
    def payload_in_words(self) -> str:
        return f"the payload of signal {self.name!r} to"
