"""A step that is in doubt, and is not simply to run again: what becomes of it, as `in_doubt` says.

- fail: its outcome is a StepAmbiguousError.
- ask: it waits for the answer of a person. That it does is recorded in the attempt in doubt.
- a probe: a function says whether the action took effect.

If it has not, the attempt is recorded as a failed one, and the next is due at once.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.actions import call_function, failure_of, is_async, late_outcome
from durable_workflow_sqlite.engine.answers import Answer, answer_to, refuse
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.doubt import ASK, FAIL, RERUN, Done, NotDone
from durable_workflow_sqlite.engine.held_slot import SOMETIME
from durable_workflow_sqlite.engine.history import StepHistory, asks, has_timed_out
from durable_workflow_sqlite.engine.observer import log_attributes
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.engine.step_info import probes_of
from durable_workflow_sqlite.engine.step_marks import ANSWER, PROBES, marked, unmarked
from durable_workflow_sqlite.engine.step_notifications import tell_complete, tell_in_doubt
from durable_workflow_sqlite.engine.step_outcomes import (
    CutOff,
    failed_attempt,
    record_cut_off,
    record_failure,
)
from durable_workflow_sqlite.engine.step_records import cut_off
from durable_workflow_sqlite.engine.step_waits import goes_on, pause, thread_of, wait
from durable_workflow_sqlite.errors import (
    SerializationError,
    StepAmbiguousError,
    StepTimeoutError,
)
from durable_workflow_sqlite.records import AMBIGUOUS, Record, StepCheckpoint, StepStatus

if TYPE_CHECKING:
    from datetime import datetime

    from durable_workflow_sqlite.engine.doubt import Doubt
    from durable_workflow_sqlite.engine.operations import StepCall
    from durable_workflow_sqlite.engine.run import Run

_log = logging.getLogger("durable_workflow_sqlite.engine")


def settles(call: StepCall) -> bool:
    """Whether the step is not simply to run again when it is in doubt."""
    return call.doubt is not None and call.doubt.step != RERUN


def is_doubtful(call: StepCall, failure: BaseException) -> bool:
    """Whether it is in doubt with this failure of an attempt, and is not simply to run again."""
    return isinstance(failure, StepTimeoutError) and settles(call)


async def settle(
    run: Run, call: StepCall, last: StepCheckpoint, first_started_at: datetime | None
) -> StepCheckpoint | None:
    """Find out what became of an attempt, and record that.

    None if the step has its outcome. Else the attempt, which has not taken effect: it is followed
    by another one. Raises CutOff if nothing more is to be done now.
    """
    settling = _Settling(run, call, last, first_started_at)
    has_asked = last.status is StepStatus.INTENT and last.error_type is not None
    if not has_asked:
        tell_in_doubt(run, last, settling.what_follows)
    if call.late:
        late = await wait(
            run, call, last, partial(late_outcome, call, run.environment.cancel_grace)
        )
        if late is not None:
            return await settling.take_late(late)
    policy = settling.doubt.step
    if policy == FAIL:
        await settling.fail("it is not run again")
        return None
    return await (settling.ask() if policy == ASK else settling.probe())


class _Settling:
    """last: what is recorded of the attempt. bare: as it is without a question or a back-off."""

    def __init__(
        self,
        run: Run,
        call: StepCall,
        last: StepCheckpoint,
        first_started_at: datetime | None,
    ) -> None:
        assert call.doubt is not None
        self._run = run
        self._call = call
        self._last = last
        self._first_started_at = first_started_at
        self._was = "timed out" if has_timed_out(last) else "was cut off"
        if asks(last) and last.error_message is not None and "timed out" in last.error_message:
            self._was = "timed out"
        self.doubt: Doubt = call.doubt

    @property
    def what_follows(self) -> str:
        """For the log."""
        match self.doubt.step:
            case "fail":
                return "it fails with StepAmbiguousError"
            case "ask":
                return "a person must say what became of it (`durable-workflow resolve`)"
            case _:
                return "its probe is asked"

    # What may become of it

    async def fail(
        self, why: str, *along: Record, cause: BaseException | None = None, answered: bool = False
    ) -> None:
        """Its outcome is a StepAmbiguousError."""
        run, call, last = self._run, self._call, self._last
        error = StepAmbiguousError(
            f"{call.describe()} of execution {run.id!r} {self._was} at attempt {last.attempt} and"
            f" may have taken effect: {why}",
            workflow_execution_id=run.id,
            step_name=call.name,
            step_index=call.place[1],
            branch=call.place[0],
        )
        error.__cause__ = cause
        attempt = self._bare
        if answered:
            mark = marked(attempt.input_data, ANSWER, "failed")
            attempt = msgspec.structs.replace(attempt, input_data=mark)
        await record_failure(run, call, attempt, error, self._first_started_at, *along)

    async def _complete(self, output: str, *along: Record) -> None:
        run, call = self._run, self._call
        await self._strip()
        completed = self._last.completed(output, run.completion_time(), run.numbers.take(call))
        completed = await run.finish_step(call, completed, *along, *run.running(progressed=True))
        tell_complete(run, completed, self._first_started_at, replayed=False)

    async def _not_done(self, who_says_so: str, *along: Record) -> StepCheckpoint:
        run, call = self._run, self._call
        if self.doubt.is_to_undo or not goes_on(run, call):
            call.was_cut_off = False
            await run.save(cut_off(self._bare, run.completion_time(), has_begun=False), *along)
            raise CutOff  # there is nothing to undo
        now = run.completion_time()
        failed = msgspec.structs.replace(
            self._bare,
            status=StepStatus.FAILED,
            error_type=AMBIGUOUS,
            error_message=f"it {self._was}, and has not taken effect: {who_says_so}",
            completed_at=now,
            due_at=now,
        )
        await run.save(failed, *along, *run.running())
        return failed

    async def take_late(self, late: asyncio.Future[Any]) -> StepCheckpoint | None:
        """Its thread has ended after the timeout, so nobody needs to be asked."""
        error = late.exception()
        if error is None:
            await self._take_value(late.result())
            return None
        run, call, attempt = self._run, self._call, self._last.attempt
        failure = failure_of(run, error, call)
        if self.doubt.is_to_undo or not call.retry.allows_another(attempt, failure):
            await record_failure(run, call, self._bare, failure, self._first_started_at)
            return None
        delay = call.retry.delay_after(attempt)
        failed = failed_attempt(run, self._bare, failure, delay)
        await run.save(failed, *run.running())
        await pause(run, call, failed)
        return failed

    async def _take_value(self, value: object) -> None:
        """It has returned this."""
        run, call = self._run, self._call
        try:
            output, call.value = call.encode(value)
            check_size(output, run.environment.max_payload_bytes, call)
            await self._complete(output)
        except SerializationError as error:
            # As after the action: it has taken effect, and is undone with what is at hand.
            error.workflow_execution_id, error.step_name = run.id, call.name
            error.branch, error.step_index = call.place
            call.unstorable = (value,)
            await record_failure(run, call, self._bare, error, self._first_started_at)

    # A person is asked

    async def ask(self) -> StepCheckpoint | None:
        """Wait for an answer: in memory if it is only to be undone, else as the execution rests."""
        run, call = self._run, self._call
        answers = run.pauses.ask()
        while True:
            answers.looks(call)
            if (answer := await answer_to(run, self._last)) is not None:
                taken, failed = await self._take(answer)
                if taken:
                    answers.is_over(call)
                    return failed
            elif not asks(self._last):
                await self._record(_question(self._bare, self._was, run.environment.clock.now()))
            elif not answers.has_news(call):
                if not self.doubt.is_to_undo:
                    raise CutOff
                comes = partial(answers.until_news, call)
                await wait(run, call, self._last, comes, until=SOMETIME)

    async def _take(self, answer: Answer) -> tuple[bool, StepCheckpoint | None]:
        """Whether an answer was taken, and the attempt if it has not taken effect."""
        run, call = self._run, self._call
        await self._strip()
        # From now on, nobody can give another one.
        answer = await answer_to(run, self._last) or answer
        if answer.failed is not None:
            await self.fail(f"a person says: {answer.failed}", *answer.signals, answered=True)
            return True, None
        if answer.value is None:
            return True, await self._not_done("a person says so", *answer.signals)
        try:
            call.value = call.decode(answer.value)
        except SerializationError as error:
            await refuse(run, answer.signals, run.environment.format_error(error))
            return False, None
        await self._complete(answer.value, *answer.signals)
        return True, None

    # The outside world is asked

    async def probe(self) -> StepCheckpoint | None:
        """Call its probe, and again after a back-off if that fails."""
        run, call = self._run, self._call
        number = probes_of(self._last)
        while True:
            if number:
                if self._last.due_at is not None:
                    await pause(run, call, self._last)
                await self._strip()
                # From now on, nobody can say what it returned instead.
                if (answer := await answer_to(run, self._last)) is not None:
                    taken, failed = await self._take(answer)
                    if taken:
                        return failed
            number += 1
            try:
                verdict = await self._call_probe()
                if not isinstance(verdict, Done | NotDone):
                    raise TypeError(
                        f"the probe of {call.describe()} must return Done(value) or NotDone(), not"
                        f" {verdict!r}"
                    )
            except BaseException as error:  # noqa: BLE001 - whatever it raises
                if isinstance(error, asyncio.CancelledError) and call.is_given_up:
                    await record_cut_off(run, call, self._bare, has_begun=True, error=error)
                failure = failure_of(run, error, call)
            else:
                if isinstance(verdict, NotDone):
                    return await self._not_done("its probe says so")
                returned = cast("Done[object]", verdict).value
                await self._take_value(returned)
                return None
            if not goes_on(run, call):
                await record_cut_off(run, call, self._bare, has_begun=True)
            if not call.retry.allows_another(number, failure):
                text = run.environment.format_error(failure)
                kind = type(failure).__qualname__
                await self.fail(f"its probe failed with {kind}: {text}", cause=failure)
                return None
            await self._note_failed_probe(number, failure)

    async def _call_probe(self) -> object:
        run, call, probe = self._run, self._call, self.doubt.step
        assert callable(probe)
        thread = None if is_async(probe) else await thread_of(run, call, self._last, None)
        seconds = None if call.timeout is None else call.timeout.total_seconds()
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                args = (self.doubt.key,)
                return await call_function(probe, args, call, thread, (run, self._last))
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise StepTimeoutError(
                f"the probe of {call.describe()} took longer than {call.timeout}",
                workflow_execution_id=run.id,
                step_name=call.name,
            ) from error
        finally:
            call.has_begun = False

    async def _note_failed_probe(self, number: int, failure: BaseException) -> None:
        run, call = self._run, self._call
        delay = call.retry.delay_after(number)
        await self._record(
            msgspec.structs.replace(
                self._bare,
                error_type=failures.error_type(failure),
                error_message=run.environment.format_error(failure),
                input_data=marked(self._bare.input_data, PROBES, number),
                due_at=later(run.environment.clock.now(), delay),
            )
        )
        _log.warning(
            "the probe of step %r of execution %r failed, retrying in %s: %s",
            call.name,
            run.id,
            delay,
            self._last.error_message,
            extra=log_attributes(self._last),
        )

    # Its record

    @property
    def _bare(self) -> StepCheckpoint:
        return msgspec.structs.replace(
            self._last,
            status=StepStatus.INTENT,
            error_type=None,
            error_message=None,
            input_data=unmarked(self._last.input_data),
            completed_at=None,
            due_at=None,
        )

    async def _strip(self) -> None:
        """Record that it neither asks nor waits any more, if it is recorded that it does."""
        if self._last != (bare := self._bare):
            await self._record(bare)

    async def _record(self, last: StepCheckpoint) -> None:
        await self._run.save(last, *self._run.running())
        self._last = last
        history = self._call.history
        first = last if history is None or history.first is None else history.first
        if first.attempt == last.attempt:
            first = last
        self._call.history = StepHistory(first=first, last=last)


def _question(attempt: StepCheckpoint, was: str, now: datetime) -> StepCheckpoint:
    """The record of an attempt of which a person is asked what became of it."""
    return msgspec.structs.replace(
        attempt,
        error_type=AMBIGUOUS,
        error_message=f"it {was} and may have taken effect: a person must say what became of it",
        completed_at=now,
    )
