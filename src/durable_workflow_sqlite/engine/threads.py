"""The threads that sync functions of the user run in: so many at once, and others wait their turn.

A thread cannot be stopped. A function that goes on although nobody waits for it any more, since its
step took longer than its timeout, is *hung*: it does not count, and another may run beside it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

HUNG_AT_MOST: Final = 500
"""How many functions may be hung before they count like the others."""

TELL_OF_HUNG: Final = 10
"""The log names those that are hung when there are so many, and when they have doubled."""

TELL_OF_WAITING_AFTER_S: Final = 30.0
"""For how long no thread comes free until the log says what has them."""

TRY_AGAIN_AFTER_S: Final = 1.0
"""How long to wait where the machine has no thread to give."""

NAMED_AT_MOST: Final = 5

_log = logging.getLogger("durable_workflow_sqlite.engine")


class Described(Protocol):
    """What a thread is for."""

    def describe(self) -> str:
        """For people."""
        ...


class Threads:
    """Of one engine. Except the functions, all of this happens on the engine's event loop.

    number: how many functions of a kind run at once. Steps and compensations are two kinds: so no
        step keeps a compensation from its thread.
    running: where a function runs that somebody waits for; `hung`: that nobody waits for.
    """

    def __init__(self, number: int) -> None:
        self.pool = _Pool(number)
        self.running: dict[Thread, None] = {}
        self.hung: dict[Thread, None] = {}
        self._owed: deque[Turns] = deque()
        """Where one more may run once a function that is hung has ended."""
        self._tell_at = TELL_OF_HUNG
        self.for_steps = Turns(number, self)
        self.for_compensations = Turns(number, self)

    def close(self) -> None:
        """Let the threads end that have nothing to do, and the others when they have not."""
        self.pool.close()

    def is_left(self, thread: Thread, turns: Turns) -> None:
        """Its function goes on, and nobody waits for it any more."""
        self.hung[thread] = None
        is_too_many = len(self.hung) > HUNG_AT_MOST
        if is_too_many:
            self._owed.append(turns)
        else:
            turns.release()
        if len(self.hung) >= self._tell_at or (is_too_many and len(self._owed) == 1):
            self._tell_at = 2 * len(self.hung)
            _log.warning(
                "%d sync functions still run in their threads, although nobody waits for them any"
                " more: %s. A thread cannot be stopped: give such a call a timeout of its own, as"
                " HTTP clients have%s",
                len(self.hung),
                in_words(self.hung),
                ". Steps now wait until some of them have ended; if they never do, restart this"
                " process"
                if is_too_many
                else "",
            )

    def has_come_back(self, thread: Thread) -> None:
        """A function that was hung has ended."""
        self.hung.pop(thread, None)
        if len(self.hung) < TELL_OF_HUNG:
            self._tell_at = TELL_OF_HUNG
        if self._owed and len(self.hung) <= HUNG_AT_MOST:
            self._owed.popleft().release()


class Turns:
    """So many functions of a kind run at once; the first to come has the first turn."""

    def __init__(self, number: int, threads: Threads) -> None:
        self._free = number
        self._threads = threads
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._alarm: asyncio.TimerHandle | None = None

    def take(self, execution_id: str, what: Described) -> Thread | None:
        """A thread, if one may be had at once."""
        if self._free <= 0:
            return None
        try:
            worker = self._threads.pool.take()
        except RuntimeError:
            return None  # whoever waits for it is told
        self._free -= 1
        return Thread(execution_id, what, worker, self, self._threads)

    async def wait(self, execution_id: str, what: Described) -> Thread:
        """Wait for a thread. Raises RuntimeError if there will be none: the interpreter is ending.

        A caller that is cancelled loses its turn, and nothing else.
        """
        await self._my_turn()
        try:
            worker = await self._worker()
        except BaseException:
            self.release()
            raise
        return Thread(execution_id, what, worker, self, self._threads)

    async def _my_turn(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        self._watch()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.pop(turn, None)
            else:
                self.release()
            raise

    async def _worker(self) -> _Worker:
        is_told = False
        while True:
            try:
                return self._threads.pool.take()
            except RuntimeError:
                if sys.is_finalizing() or not threading.main_thread().is_alive():
                    raise
                if not is_told:
                    _log.warning("cannot start a thread; will go on trying", exc_info=True)
                is_told = True
                await asyncio.sleep(TRY_AGAIN_AFTER_S)

    def release(self) -> None:
        """One more may run."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                break
        else:
            self._free += 1
        self._watch()

    def _watch(self) -> None:
        """Say so if no thread comes free for long; asked again, the time starts again."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._waiting:
            with suppress(RuntimeError):  # the loop is closed
                loop = asyncio.get_running_loop()
                self._alarm = loop.call_later(TELL_OF_WAITING_AFTER_S, self._tell)

    def _tell(self) -> None:
        running = [one for one in self._threads.running if one.is_of(self)]
        _log.warning(
            "no thread has come free for %g s: %d functions wait for one, and %d run: %s. Give"
            " steps that may hang a `timeout=`: what takes longer no longer keeps others from a"
            " thread",
            TELL_OF_WAITING_AFTER_S,
            len(self._waiting),
            len(running),
            in_words(running),
        )


class Thread:
    """The turn of one function, and a thread that has nothing else to do.

    running: the function, once it runs.
    """

    __slots__ = ("_begun_at", "_execution_id", "_threads", "_turns", "_what", "_worker", "running")

    def __init__(
        self,
        execution_id: str,
        what: Described,
        worker: _Worker,
        turns: Turns,
        threads: Threads,
    ) -> None:
        self._execution_id = execution_id
        self._what = what
        self._worker: _Worker | None = worker
        self._turns = turns
        self._threads = threads
        self.running: asyncio.Future[Any] | None = None
        self._begun_at = 0.0

    def __str__(self) -> str:
        since = time.monotonic() - self._begun_at
        return f"{self._what.describe()} of execution {self._execution_id!r} (for {since:.1f} s)"

    def is_of(self, turns: Turns) -> bool:
        return self._turns is turns

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function in it. A cancelled caller leaves it running, and calls `leave`."""
        assert self._worker is not None
        self._begun_at = time.monotonic()
        # By the loop's own method, so that whoever watches what the loop has in threads sees it.
        running = asyncio.get_running_loop().run_in_executor(self._worker, function)
        self.running = running
        self._threads.running[self] = None
        return running

    def leave(self) -> None:
        """It is not needed any more, or not waited for; said twice is harmless."""
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        running, threads = self.running, self._threads
        if running is None:
            threads.pool.has_nothing_to_do(worker)
            self._turns.release()
            return
        del threads.running[self]
        if running.done():
            self._turns.release()
        else:
            running.add_done_callback(self._has_ended)
            threads.is_left(self, self._turns)

    def _has_ended(self, running: asyncio.Future[Any]) -> None:
        if not running.cancelled():
            running.exception()  # it is nobody's
        self._threads.has_come_back(self)


def in_words(threads: Iterable[Thread]) -> str:
    """The first few of them, for people."""
    them = iter(threads)
    named = ", ".join(map(str, islice(them, NAMED_AT_MOST)))
    more = sum(1 for _ in them)
    return named + (f", and {more} more" if more else "")


class _Pool:
    """Threads with nothing to do, and new ones where there are none.

    They are daemons, as those of `concurrent.futures` are not: a function that is hung must not
    keep the program from ending. What is to be waited for, the engine waits for.
    """

    def __init__(self, keep: int) -> None:
        self._idle = _Idle(keep)
        self._number = 0

    def __del__(self) -> None:
        self._idle.close()

    def take(self) -> _Worker:
        """Raises RuntimeError where no thread can be started."""
        try:
            return self._idle.workers.pop()
        except IndexError:
            self._number += 1
            return _Worker(self._idle, self._number)

    def has_nothing_to_do(self, worker: _Worker) -> None:
        self._idle.add(worker)

    def close(self) -> None:
        self._idle.close()


class _Idle:
    """Shared with the threads, which so do not keep the pool alive."""

    def __init__(self, keep: int) -> None:
        self.workers: list[_Worker] = []
        self._keep = keep

    def add(self, worker: _Worker) -> None:
        """From any thread."""
        self.workers.append(worker)
        self._let_end(self._keep)

    def close(self) -> None:
        self._keep = 0
        self._let_end(0)

    def _let_end(self, but: int) -> None:
        with suppress(IndexError):
            while len(self.workers) > but:
                self.workers.pop().end()


class _Worker(Executor):
    """One thread, which runs one function after the other."""

    def __init__(self, idle: _Idle, number: int) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._idle = idle
        name = f"durable-workflow-action_{number}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        self._jobs.put((future, partial(fn, *args, **kwargs)))
        return future

    def end(self) -> None:
        self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(*job)
            del job  # until the next one comes, nothing of it is kept alive

    def _do(self, future: Future[Any], function: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            self._idle.add(self)
            return
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
            self._idle.add(self)  # before that: whoever is told may want a thread again
            future.set_exception(error)
        else:
            self._idle.add(self)
            future.set_result(result)
        del future, function  # an error holds this frame
