"""A compensation that is in doubt, and is not simply to run again: what becomes of it.

As `settling` does for a step. It waits in memory for an answer: the execution is COMPENSATING.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.actions import call_function, failure_of, is_async
from durable_workflow_sqlite.engine.answers import Answer, answer_to
from durable_workflow_sqlite.engine.clock import later
from durable_workflow_sqlite.engine.doubt import ASK, FAIL, RERUN, Done, NotDone
from durable_workflow_sqlite.engine.held_slot import SOMETIME
from durable_workflow_sqlite.engine.history import asks
from durable_workflow_sqlite.engine.observer import log_attributes
from durable_workflow_sqlite.engine.step_info import probes_of, tries_of
from durable_workflow_sqlite.engine.step_marks import PROBES, marked, unmarked
from durable_workflow_sqlite.engine.under_way import UnderWay
from durable_workflow_sqlite.errors import StepAmbiguousError
from durable_workflow_sqlite.records import (
    AMBIGUOUS,
    COMPENSATION_SUFFIX,
    Record,
    StepCheckpoint,
    StepStatus,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import datetime

    from durable_workflow_sqlite.engine.operations import StepCall
    from durable_workflow_sqlite.engine.run import Run
    from durable_workflow_sqlite.engine.threads import Thread

_log = logging.getLogger("durable_workflow_sqlite.engine")


class Undo(UnderWay, Protocol):
    """What undoes the steps: it waits, and takes threads."""

    async def wait_long(self, what: Awaitable[None], until: datetime | None) -> None:
        """Wait without a slot."""

    async def take_thread(self) -> Thread:
        """A thread for a sync function."""
        ...

    async def pause_after(self, failed: StepCheckpoint) -> None:
        """Wait until it is due."""


def settles_undo(call: StepCall, begun: StepCheckpoint) -> bool:
    """Whether a compensation that has begun is in doubt, and is not simply to run again."""
    if call.doubt is None or call.doubt.compensation == RERUN:
        return False
    return begun.due_at is None or probes_of(begun) > 0


async def settle_undo(
    run: Run, undo: Undo, call: StepCall, begun: StepCheckpoint
) -> StepCheckpoint | None:
    """Find out what became of it; its record then: it is done, or has failed for good.

    The record is saved. None if it has not taken effect, so that it runs again.
    """
    assert call.doubt is not None
    settling = _Settling(run, undo, call, begun)
    if begun.error_type is None:
        _log.warning(
            "the compensation of step %r of execution %r was interrupted at attempt %d and may"
            " have taken effect; %s",
            call.name,
            run.id,
            tries_of(begun),
            {
                FAIL: "it counts as failed",
                ASK: "a person must say what became of it (`durable-workflow resolve`)",
            }.get(str(call.doubt.compensation), "its probe is asked"),
            extra=log_attributes(begun),
        )
    if call.doubt.compensation == FAIL:
        return await settling.fail("it is not run again")
    if call.doubt.compensation == ASK:
        return await settling.ask()
    return await settling.probe()


class _Settling:
    def __init__(self, run: Run, undo: Undo, call: StepCall, begun: StepCheckpoint) -> None:
        self._run = run
        self._undo = undo
        self._call = call
        self._last = begun

    async def fail(self, why: str, *along: Record) -> StepCheckpoint:
        run = self._run
        error = StepAmbiguousError(
            f"the compensation of {self._call.describe()} was cut off and may have taken effect:"
            f" {why}"
        )
        failed = msgspec.structs.replace(
            self._bare,
            status=StepStatus.FAILED,
            error_type=AMBIGUOUS,
            error_message=run.environment.format_error(error),
            completed_at=run.completion_time(),
        )
        await run.save(failed, *along)
        _log.error("%s", error, extra=log_attributes(failed))
        return failed

    async def _done(self, *along: Record) -> StepCheckpoint:
        done = msgspec.structs.replace(
            self._bare, status=StepStatus.COMPENSATED, completed_at=self._run.completion_time()
        )
        await self._run.save(done, *along)
        return done

    async def ask(self) -> StepCheckpoint | None:
        run, undo = self._run, self._undo
        answers = run.pauses.ask()
        while True:
            answers.looks(undo)
            if (answer := await answer_to(run, self._last)) is not None:
                answers.is_over(undo)
                return await self._take(answer)
            if not asks(self._last):
                await self._record(
                    msgspec.structs.replace(
                        self._bare,
                        error_type=AMBIGUOUS,
                        error_message="it was cut off and may have taken effect: a person must say"
                        " what became of it",
                        completed_at=run.environment.clock.now(),
                    )
                )
            elif not answers.has_news(undo):
                await undo.wait_long(answers.until_news(undo), SOMETIME)

    async def _take(self, answer: Answer) -> StepCheckpoint | None:
        await self._strip()
        # From now on, nobody can give another one.
        answer = await answer_to(self._run, self._last) or answer
        if answer.failed is not None:
            return await self.fail(f"a person says: {answer.failed}", *answer.signals)
        if answer.value is not None:
            return await self._done(*answer.signals)
        await self._run.save(*answer.signals)
        return None

    async def probe(self) -> StepCheckpoint | None:
        run, call = self._run, self._call
        number = probes_of(self._last)
        while True:
            if number:
                if self._last.due_at is not None:
                    await self._undo.pause_after(self._last)
                await self._strip()
                if (answer := await answer_to(run, self._last)) is not None:
                    return await self._take(answer)
            number += 1
            try:
                verdict = await self._call_probe()
                if not isinstance(verdict, Done | NotDone):
                    raise TypeError(
                        f"the probe of the compensation of {call.describe()} must return"
                        f" Done() or NotDone(), not {verdict!r}"
                    )
            except BaseException as error:  # noqa: BLE001 - whatever it raises
                failure = failure_of(run, error, self._undo)
            else:
                return await self._done() if isinstance(verdict, Done) else None
            text = run.environment.format_error(failure)
            if not call.compensate_retry.allows_another(number, failure):
                return await self.fail(
                    f"its probe failed with {type(failure).__qualname__}: {text}"
                )
            delay = call.compensate_retry.delay_after(number)
            await self._record(
                msgspec.structs.replace(
                    self._bare,
                    error_type=failures.error_type(failure),
                    error_message=text,
                    input_data=marked(self._bare.input_data, PROBES, number),
                    due_at=later(run.environment.clock.now(), delay),
                )
            )
            _log.warning(
                "the probe of the compensation of step %r of execution %r failed, retrying in %s:"
                " %s",
                call.name,
                run.id,
                delay,
                text,
                extra=log_attributes(self._last),
            )

    async def _call_probe(self) -> object:
        call, undo = self._call, self._undo
        assert call.doubt is not None
        probe = call.doubt.compensation
        assert callable(probe)
        thread = None if is_async(probe) else await undo.take_thread()
        try:
            args = (call.doubt.key + COMPENSATION_SUFFIX,)
            return await call_function(probe, args, undo, thread, (self._run, self._last))
        finally:
            undo.has_begun = False

    @property
    def _bare(self) -> StepCheckpoint:
        return msgspec.structs.replace(
            self._last,
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
        await self._run.save(last)
        self._last = last
