"""One run of a workflow function: what it has asked for, and which outcomes it has got.

It runs here and nowhere else: live, in a replay, and where a test checks one. It knows the records
of before and no store. Its driver takes what it asks for, and tells it one event at a time.
"""

from __future__ import annotations

import asyncio
import logging
from binascii import crc32
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

import msgspec

from durable_workflow_sqlite.engine.body_errors import (
    OutcomeErrors,
    cancelled_by_itself,
    refusal_in,
)
from durable_workflow_sqlite.engine.body_loop import BodyLoop, as_time
from durable_workflow_sqlite.engine.body_tasks import where_it_waits
from durable_workflow_sqlite.engine.calls import Calls
from durable_workflow_sqlite.engine.history import Place, RecordedHistory
from durable_workflow_sqlite.engine.origins import Origin
from durable_workflow_sqlite.engine.watchdog import Watchdog
from durable_workflow_sqlite.payload_codec import MAX_PAYLOAD_BYTES
from durable_workflow_sqlite.records import Progress, StepCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from durable_workflow_sqlite.engine.child_calls import ChildCall
    from durable_workflow_sqlite.engine.operations import Operation, StepCall

_log = logging.getLogger("durable_workflow_sqlite.engine")

SMALL_SET_BITS: Final = 16
"""In sets of that size, tasks are in the order in which they were made."""

MOST_LAST_WORDS: Final = 100
"""How often a body that is told to end is told again, before it is dropped."""

MOST_REFUSALS: Final = 1000
"""How many calls of a body that is to end raise. What it calls then waits until it is dropped: a
loop that catches what is raised would never end."""


class ContinueAsNew(msgspec.Struct, frozen=True):
    """What a workflow function returns to begin again, with this input."""

    input_data: str


class Body:
    """One run of a workflow function. All of it happens on the program's own thread.

    asked: of each of its branches, how many steps, sleeps and waits it has called there.
    new: what it has asked for since this was last emptied, in order.
    given_up: what it no longer waits for since then, in order.
    undoable: the steps with a compensation that it has asked for.
    children: those that are to end with it, by their ids, until it has got their ends.
    following: how it is to continue as new, once it has asked for that.
    heard: the number of the last event that it has got.
    seeds: whose random numbers it repeats up to which event, where it is a fork.
    """

    __slots__ = (
        "_is_interrupted",
        "_refusals",
        "_repeats",
        "_task",
        "_watchdog",
        "asked",
        "calls",
        "children",
        "encode_input",
        "execution_id",
        "following",
        "given_up",
        "heard",
        "history",
        "is_ended",
        "is_open",
        "is_over",
        "loop",
        "max_payload_bytes",
        "module",
        "new",
        "open",
        "outcome_errors",
        "queue",
        "queue_key",
        "report",
        "run_number",
        "seeds",
        "started_at",
        "steps_begun",
        "trouble",
        "undoable",
        "workflow_name",
    )

    def __init__(
        self,
        workflow_name: str,
        execution_id: str,
        origin: Origin,
        history: RecordedHistory,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.workflow_name = workflow_name
        self.execution_id = execution_id
        self.started_at = started_at = origin.began_at
        self.seeds = origin.seeds
        self.history = history
        hashed = self.seeds[0][0] if self.seeds else execution_id
        hashes_from = crc32(hashed.encode()) << SMALL_SET_BITS
        self.loop = BodyLoop(started_at, hashes_from)  # type: ignore[abstract]
        self.calls = Calls()
        self.new: list[Operation] = []
        self.given_up: list[Operation] = []
        self.open: dict[Place, Operation] = {}
        self.undoable: dict[Place, StepCall] = {}
        self.children: dict[str, ChildCall] = {}
        self.following: ContinueAsNew | None = None
        self.encode_input: Callable[[tuple[Any, ...]], str] | None = None
        self.run_number = 1
        self.max_payload_bytes = MAX_PAYLOAD_BYTES
        self.queue: str | None = None
        self.queue_key: str | None = None
        self.report: Callable[[Progress], None] | None = None
        self.heard = 0
        self.outcome_errors = OutcomeErrors(Body.ask.__code__)
        self.module = ""
        """Where the workflow function is defined."""
        self.steps_begun = 0
        self.is_over = False
        """Whether the workflow function has returned, or has raised."""
        self.is_ended = False
        self.trouble: BaseException | None = None
        self.asked: dict[str, int] = {}
        self._repeats: dict[str, int] | None = None
        self._is_interrupted = False
        self._refusals = 0
        self.is_open = True
        """Whether it may ask for something."""
        self._task: asyncio.Task[Any] | None = None
        self._watchdog = watchdog

    # What whoever drives it calls

    def begin(
        self,
        function: Callable[..., Coroutine[Any, Any, Any]],
        context: object,
        args: tuple[Any, ...],
        variables: Context,
    ) -> None:
        """Call the workflow function, and run it until it waits.

        variables: the context variables that it sees.
        """
        self.module = function.__module__
        self.loop.context = context
        self._task = variables.run(
            self.loop.create_task,
            function(context, *args),
            name=f"workflow {self.execution_id}",
            context=variables,
        )
        self._run()

    def hear(self, operation: Operation, checkpoint: StepCheckpoint) -> None:
        """Tell it the outcome of what it asked for, and run it until it waits again."""
        event, at = checkpoint.event, checkpoint.completed_at
        assert event is not None
        assert at is not None
        self.heard = event
        self.loop.move_to(at)
        self.open.pop(operation.place, None)
        future = operation.future
        if future is not None and not future.done():
            if operation.error is None:
                future.set_result(operation.value)
            else:
                self.outcome_errors.add(operation.error)
                future.set_exception(operation.error)
        self._run()

    def forget_what_it_got(self) -> None:
        """Forget what a replay has asked for and has got. What has no outcome is still to begin."""
        self.new = [one for one in self.new if one.future and not one.future.done()]

    def let_time_pass(self, checkpoint: StepCheckpoint) -> None:
        """An event that is for nobody but the clock: run what is due by then."""
        self._hear_of(checkpoint)
        self._run()

    def _hear_of(self, checkpoint: StepCheckpoint) -> None:
        assert checkpoint.event is not None
        self.heard = checkpoint.event
        if checkpoint.completed_at is not None:
            self.loop.move_to(checkpoint.completed_at)

    def interrupt(self) -> None:
        """Tell it to end, by a CancelledError; what it asks for from now on is refused."""
        self._is_interrupted, self.is_open = True, False
        task = self._task
        if task is None:
            self.is_ended, self.is_open = True, False
            return
        for _ in range(MOST_LAST_WORDS):
            if task.done():
                break
            if not self.loop.has_ready:
                task.cancel()
            self._run()
            if (timer := self.loop.next_timer()) is not None and not task.done():
                # Nobody waits for how long it sleeps on its way out.
                self.loop.move_to(as_time(timer[0]))
                self._run()
        self.end()

    def end(self) -> None:
        """The workflow function has ended, or must: end what it left behind, as asyncio does."""
        if self.is_ended:
            return
        self.is_ended, self.is_open = True, False
        for _ in range(MOST_LAST_WORDS):
            if not self.loop.cancel_tasks():
                break
            self._run()
        self.loop.close_generators()
        self._run()
        self._tell_of_stubborn([task.get_coro() for task in self.loop.open_tasks()])
        self.loop.drop()

    def drop(self) -> None:
        """Close it where it stands; it can be run again from its records."""
        self.is_ended, self.is_open = True, False
        self.new.clear()
        self.given_up.clear()
        self._tell_of_stubborn(self.loop.drop())
        self.given_up.clear()
        self.calls.take_unawaited()

    def let_go(self) -> None:
        """It has left: its task and its loop refer to it no longer, nor it to them and its run."""
        self._task = self.loop.context = self.report = None

    @property
    def is_stuck(self) -> bool:
        """Whether nothing is open that could bring it further."""
        return not self.open and self.loop.next_timer() is None

    def where_it_waits(self) -> str:
        """The line of the workflow's own code at which its function waits."""
        return "" if self._task is None else where_it_waits(self._task.get_coro())

    def result(self) -> tuple[Any, BaseException | None]:
        """What the workflow function returned, or what it raised."""
        assert self._task is not None
        try:
            # `result()`, asked a second time, would take the traceback away from the error.
            error = self._task.exception()
        except asyncio.CancelledError as cancellation:
            return None, cancelled_by_itself(cancellation)
        if error is None:
            return self._task.result(), None
        refused = refusal_in(error, self.outcome_errors)
        if refused is not None and refused is not error:
            refused.workflow_execution_id = self.execution_id
        return None, refused or error

    def is_refused(self, error: BaseException) -> bool:
        """Whether an error comes from a call that was refused."""
        return refusal_in(error, self.outcome_errors) is not None

    def asked_for(self, place: Place) -> bool:
        """Whether it has come to a place by now."""
        return place[1] < self.asked.get(place[0], 0)

    def ended_with(self, places: set[Place]) -> bool:
        """Whether these are what it has asked for last: False also where that cannot be told."""
        if len(self.asked) > 1 or self.loop.number_of_timers:
            return False
        ((branch, number),) = self.asked.items()
        first = min(index for _, index in places)
        return all((branch, index) in places for index in range(first, number))

    def _run(self) -> None:
        watchdog = self._watchdog
        if watchdog is None:
            self.loop.run()
        else:
            watchdog.body = self
            watchdog.runs += 1
            try:
                self.loop.run()
            finally:
                watchdog.body = None
        self.is_over = self._task is not None and self._task.done()
        if self.loop.refused is not None:
            self._tell_of_refused(self.loop.refused)

    def _tell_of_refused(self, refused: dict[str, bool]) -> None:
        """Log a refused call if the function does not end with its error, which would hide it."""
        if self.is_over and (error := self.result()[1]) is not None and self.is_refused(error):
            return
        for call, is_told in refused.items():
            refused[call] = True
            if not is_told and not self.history.events:  # else it is a replay
                _log.warning(
                    "workflow %r of execution %r called %s, which is refused in a workflow"
                    " function; the function caught the error, or goes on without it",
                    self.workflow_name,
                    self.execution_id,
                    call,
                    extra={"workflow_execution_id": self.execution_id},
                )

    def _tell_of_stubborn(self, coroutines: list[Any]) -> None:
        """Log what would not end."""
        if coroutines:
            _log.warning(
                "workflow %r of execution %r was told to end, and goes on%s%s: it catches"
                " CancelledError or GeneratorExit, and does not raise it again. It is dropped",
                self.workflow_name,
                self.execution_id,
                where_it_waits(coroutines[0]),
                f", and in {more} more tasks" if (more := len(coroutines) - 1) else "",
                extra={"workflow_execution_id": self.execution_id},
            )

    # What its context calls

    async def ask(self, call: Operation) -> Any:
        """Ask for something, and wait for the outcome."""
        if not (self.is_open and self.loop.is_running_now):
            self.check_open()
            return await asyncio.Future(loop=self.loop)  # nobody ends it
        future = call.future = asyncio.Future(loop=self.loop)
        self.open[call.place] = call
        self.new.append(call)
        try:
            return await future
        except (asyncio.CancelledError, GeneratorExit):
            if future.cancelled() or not future.done():
                future.cancel()
                self.open.pop(call.place, None)
                self.given_up.append(call)
            raise

    def fail(self, trouble: BaseException) -> None:
        """It cannot go on: the code does not fit its records."""
        self.trouble, self.is_open = trouble, False

    def check_open(self) -> None:
        """Raise if nothing may be asked for: by whom it must not be, or any more.

        Where this returns and `is_open` is False, the call is to wait until the body is dropped.
        """
        if not self.is_open:
            self._refusals += 1
            if self._refusals > MOST_REFUSALS:
                return
        if self.trouble is not None or self._is_interrupted:
            raise asyncio.CancelledError(f"execution {self.execution_id!r} is being stopped")
        if self.is_ended:
            raise RuntimeError(
                f"execution {self.execution_id!r} has ended; a task that it started still uses its"
                " context. Await every task before the workflow function returns."
            )
        if not self.loop.is_running_now:
            raise RuntimeError(
                f"the context of execution {self.execution_id!r} is used outside of its workflow"
                " function, maybe in an action. A step cannot contain other steps, since a replay"
                " does not run its action. Use the context only in the workflow function"
            )

    def next_of(self, path: str) -> str:
        """The path of another branch with the key of one that there is: "KEY#2", then "KEY#3"."""
        repeats = self._repeats = self._repeats or {}
        while True:
            number = repeats[path] = repeats.get(path, 1) + 1
            if (next_one := f"{path}#{number}") not in self.asked:
                return next_one
