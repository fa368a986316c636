"""One transaction for all writes of one turn of the event loop.

Writes queue up while the tasks of a turn run; then they are flushed together, and each caller's
`await` returns after the commit. An operation that raises fails alone. The event loop never waits
for the database: if someone else holds the lock, the store asks for it again a little later. If a
commit must wait for the disk, it waits in a thread.

Where turn after turn brings one write alone, a write has nobody to wait for: it is committed at
once, for up to two milliseconds, before the event loop has its turn again.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from asyncio import events
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypeVar, cast

from durable_workflow_sqlite.errors import (
    SerializationError,
    StoreError,
    StoreGoneError,
    TransactionTimeoutError,
)
from durable_workflow_sqlite.loops import running_loop
from durable_workflow_sqlite.store.checkpointer import Checkpointer
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS
from durable_workflow_sqlite.store.guard import Authorizer, Guard
from durable_workflow_sqlite.store.guarded_calls import FunctionFailedError, cannot_join
from durable_workflow_sqlite.store.open_files import OpenFiles
from durable_workflow_sqlite.store.sqlite_errors import (
    FAILURES,
    is_busy,
    is_of_the_disk,
    translate,
)
from durable_workflow_sqlite.store.transactions import Shortcut, Transaction, Transactions
from durable_workflow_sqlite.store.user_reader import UserReader

T = TypeVar("T")

_Noted = Callable[[Any], object] | None
_Queued = tuple[Any, Shortcut | None, "asyncio.Future[Any]", _Noted]
"""The first is an operation, which is called without arguments, or a `Transaction`."""
_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None, _Noted]

RETRY_AFTER_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02)
"""How long to wait before each new try to get a lock; from then on, the last of them."""

AT_ONCE_S: Final = 0.002
"""For how long writes may be committed at once before the event loop has its turn."""

LOOK_AT_FILES_EVERY_S: Final = 0.0005
"""How often those, and reads, look whether the files are still there: a look is a system call."""

ALONE_AFTER: Final = 3
"""Groups of one in a row, after which a write is taken to be alone."""

CHECKPOINT_FIRST_TIMES: Final = 10
CHECKPOINT_FIRST_S: Final = 0.1
"""For how long a checkpoint goes first: else busy writers would keep it from the lock."""


_forks = 0
"""How many forks lie between the first process and this one."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - a process has one past
    _forks += 1


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_count_fork)


class _NothingChangedError(Exception):
    """A shortcut changed no row: its operation is to be run instead."""


class _NewSchemaError(Exception):
    """A transaction is to be run again, once the database has been looked at."""


class _Refusals:
    """How often, and until when, a group has asked for a lock that someone else holds."""

    def __init__(self) -> None:
        self.times = 0
        self.give_up_at = 0.0
        self.group_size = 0


COMMIT: Final = "commit -- of the library"
ROLLBACK: Final = "rollback -- of the library"
"""sqlite3 keeps compiled statements by their texts, and SQLite asks the authorizer only when it
compiles one: so a function of the user must not send what the library has sent."""


class GroupCommit(Transactions):
    """The one way to a connection: see `Transactions`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        files: OpenFiles | None,
        waits_for_disk: bool,
        bound_to_thread: bool,
        checkpointer: Checkpointer | None,
        is_intact: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._path = None if files is None else files.database
        self._files = files
        self._waits_for_disk = waits_for_disk
        self._bound_to_thread = bound_to_thread
        self._checkpointer = checkpointer
        self._is_intact = is_intact
        self._schema_version: int | None = None
        # To ask for the version in each transaction would take a tenth of it. SQLite compares it
        # before it runs a statement, and calls the authorizer when it has to compile one.
        self._authorizer = Authorizer(is_asked=files is not None)
        connection.set_authorizer(self._authorizer)
        self._reader = UserReader(self._path)
        self.join: Callable[[Any], Any] = cannot_join
        self._is_restored = False
        self._queue: list[_Queued] = []
        self._functions = 0
        """How many of these are a function of the user."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refusals = _Refusals()
        self._one_by_one = False
        self._alone = 0
        self._at_once_until = 0.0
        self._look_at_files_at = 0.0
        self._in_thread: asyncio.Future[list[_Outcome]] | None = None
        self._readers: list[asyncio.Future[None]] = []
        """Who reads once the thread is free, and before it gets the next group."""
        self._executor: ThreadPoolExecutor | None = None
        self._busy_timeout_ms = BUSY_TIMEOUT_MS
        self._rollback_failed = False
        self._data_version: int | None = None
        self._is_asked_for_changes = False
        self._change_counter = 0
        self._forks = _forks
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that opened the connection."""
        return self._forks != _forks

    async def write(
        self,
        operation: Callable[[], T],
        shortcut: Shortcut | None = None,
        noted: Callable[[T], object] | None = None,
    ) -> T:
        if (
            self._alone >= ALONE_AFTER
            and not self._queue
            and (now := monotonic()) < self._at_once_until
            and self._loop is events._get_running_loop()
            and self._begins_at_once(now)
        ):
            try:
                result = self._run_at_once(operation, shortcut)
            except _NewSchemaError:
                pass
            else:
                if noted is not None:
                    noted(result)
                return result
        loop = self._enter()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append((operation, shortcut, future, noted))
        if len(self._queue) == 1 and self._in_thread is None and not self._refusals.times:
            loop.call_soon(self._flush)
        return await future

    async def read(self, operation: Callable[[], T]) -> T:
        loop = self._enter()
        while self._in_thread is not None:
            turn: asyncio.Future[None] = loop.create_future()
            self._readers.append(turn)
            await turn
        self._look_at_files_now_and_then(monotonic())
        try:
            self._roll_back_what_is_left()
            return operation()
        except FAILURES as error:
            if not is_busy(error):
                raise self._translated(error) from error
        return await self.write(operation)  # the rare lock that readers must wait for, too

    async def transact(self, transaction: Transaction) -> bool:
        loop = self._enter()
        future: asyncio.Future[bool] = loop.create_future()
        self._queue.append((transaction, None, future, None))
        self._functions += 1
        if len(self._queue) == 1 and self._in_thread is None and not self._refusals.times:
            loop.call_soon(self._flush)
        return await future

    async def look(self, function: Callable[[Any], T], timeout_s: float) -> T:
        loop = self._enter()
        try:
            if self._path is None or self._bound_to_thread:
                return await self.read(
                    lambda: Guard(
                        self._connection, self._authorizer, timeout_s, cannot_join, only_reads=True
                    ).run(function)
                )
            self._check_files()
            return await self._reader.run(loop, function, timeout_s)
        except FunctionFailedError as failed:
            raise failed.error from failed.error.__cause__

    def change_counter(self) -> int:
        if self._in_thread is not None or self._closed or self._forks != _forks:
            self._is_asked_for_changes = True
            return self._change_counter  # the answer can wait until nobody else uses the connection
        self._is_asked_for_changes = False
        try:
            self._check_files()
            (version,) = self._connection.execute("pragma data_version").fetchone()
            if version != self._data_version and self._files is not None:
                self._look_whether_it_was_restored()
        except (*FAILURES, StoreError):
            version = None  # whoever looks for the news will meet the error
        if version is None or version != self._data_version:
            self._data_version = version
            self._change_counter += 1
        return self._change_counter

    def count_change(self) -> None:
        self._change_counter += 1

    def execute(self, statement: Shortcut) -> int:
        return self._connection.execute(*statement).rowcount

    def total_changes(self) -> int:
        return self._connection.total_changes

    def hold_execution(self, workflow_execution_id: str) -> None:
        """Nothing is to be done: a transaction that writes has the database to itself."""

    def hold(self, kind: str, name: str) -> None:
        """As `hold_execution`."""

    async def close(self) -> None:
        """Flush what is queued, then refuse everything."""
        if self._closed:
            return
        if self._forks != _forks:
            self._closed = True  # the parent's, and none of this process's business
            return
        loop = running_loop(of="a store")
        if self._queue or self._in_thread is not None:
            self._enter()  # what a loop that is gone has left would never be done
        elif self._loop is not None and self._loop is not loop and self._loop.is_running():
            raise self._is_of_another_loop()
        self._closed = True
        self._at_once_until = 0.0
        while self._queue or self._in_thread is not None:
            if self._in_thread is not None:
                await asyncio.wait([self._in_thread])
            else:
                await asyncio.sleep(RETRY_AFTER_S[0])
        self._stop_thread()
        await self._reader.close(loop)
        with suppress(*FAILURES):  # it may be closed already
            self._roll_back_what_is_left()
            self._set_busy_timeout(BUSY_TIMEOUT_MS)
            self._connection.set_authorizer(None)

    def _stop_thread(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _enter(self) -> asyncio.AbstractEventLoop:
        loop = events._get_running_loop()
        if loop is not None and loop is self._loop and not self._closed and self._forks == _forks:
            return loop
        if self._closed:
            raise StoreError("the store is closed")
        if self._forks != _forks:
            raise StoreError(
                "this process was forked after the store was opened, and both processes must not"
                " use the same SQLite connection; open a new store after the fork"
            )
        loop = running_loop(of="a store")
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise self._is_of_another_loop()
            self._stop_thread()
            self._loop = loop
            self._queue.clear()  # what a loop that is gone never waited for
            self._functions = 0
            self._readers.clear()
            self._refusals = _Refusals()
            self._in_thread = None
        return loop

    def check_usable(self) -> None:
        self._enter()

    def _is_of_another_loop(self) -> RuntimeError:
        return RuntimeError(
            "this store is in use by another event loop; open one store for each loop, or"
            " use it from there: `asyncio.run_coroutine_threadsafe(store.save(...), loop)`"
        )

    def _begins_at_once(self, now: float) -> bool:
        """Begin a transaction here and now, unless something must be waited for."""
        if (
            (self._checkpointer is not None and self._checkpointer.wants_lock)
            or self._forks != _forks
            or self._connection.in_transaction
        ):
            return False
        try:
            if self._busy_timeout_ms:
                self._set_busy_timeout(0)
            self._look_at_files_now_and_then(now)
            self._connection.execute("begin immediate")
            if self._authorizer.has_compiled:
                self._look_whether_it_was_restored()
        except (*FAILURES, StoreError):
            self._roll_back()
            return False  # the flush will meet it again
        return True

    def _run_at_once(self, operation: Callable[[], T], shortcut: Shortcut | None) -> T:
        """As `_run`, for one operation whose caller waits for it."""
        try:
            result: Any = None
            if shortcut is None or not self._connection.execute(*shortcut).rowcount:
                result = operation()
            if self._authorizer.has_compiled and self._is_schema_new():
                raise _NewSchemaError
            self._connection.execute(COMMIT)
        except BaseException as error:
            self._roll_back()
            translated = self._translated(error)
            if translated is not error:
                raise translated from error
            raise
        if self._checkpointer is not None:
            self._checkpointer.after_commit()
        return cast("T", result)

    def _flush(self) -> None:
        """Commit what is queued, without waiting for a lock or a disk here."""
        if self._in_thread is not None:
            return
        if not self._queue:
            self._refusals = _Refusals()
            return
        is_function = self._functions and isinstance(self._queue[0][0], Transaction)
        in_thread = self._waits_for_disk or (is_function and self._path is not None)
        if in_thread and not self._bound_to_thread:
            self._at_once_until = 0.0
            self._refusals = _Refusals()
            self._flush_in_thread()
            return
        assert self._loop is not None
        self._at_once_until = monotonic() + AT_ONCE_S
        if self._is_checkpointing and self._refusals.times < CHECKPOINT_FIRST_TIMES:
            self._try_again()
            return
        try:
            self._set_busy_timeout(0)
            self._begin()
        except (*FAILURES, StoreError) as error:
            self._refused(error)
        else:
            self._refusals = _Refusals()
            group = self._take()
            if is_function:
                _settle([self._act(group[0], has_begun=True)])
            else:
                self._alone = self._alone + 1 if len(group) == 1 else 0
                outcomes = self._run_one_by_one(group) if self._one_by_one else self._run(group)
                self._one_by_one = outcomes is None
                if outcomes is None:
                    self._queue[:0] = group
                else:
                    _settle(outcomes)
            if self._queue:
                asyncio.get_running_loop().call_soon(self._flush)

    def _take(self) -> list[_Queued]:
        """What is next, in the order in which it was asked for: a group, or a function alone."""
        if not self._functions:
            group, self._queue = self._queue, []
            return group
        before = 0
        while before < len(self._queue) and not isinstance(self._queue[before][0], Transaction):
            before += 1
        self._functions -= not before
        group, self._queue = self._queue[: before or 1], self._queue[before or 1 :]
        return group

    def _refused(self, error: Exception) -> None:
        """Try again later, unless that is hopeless or has gone on for too long."""
        loop = asyncio.get_running_loop()
        gives_up = self._refusals.times and loop.time() >= self._refusals.give_up_at
        if is_busy(error) and not gives_up:
            self._try_again()
            return
        size = self._refusals.group_size or len(self._queue)
        group, self._queue = self._queue[:size], self._queue[size:]
        self._functions -= sum(isinstance(one[0], Transaction) for one in group)
        self._refusals = _Refusals()
        _settle(self._all_failed(group, error))
        if self._queue:
            loop.call_soon(self._flush)  # what was asked for in the meantime

    def _try_again(self) -> None:
        loop = asyncio.get_running_loop()
        self._at_once_until = 0.0
        refusals = self._refusals
        if refusals.times == 0:
            refusals.give_up_at = loop.time() + BUSY_TIMEOUT_MS / 1000
            refusals.group_size = len(self._queue)
        loop.call_later(
            RETRY_AFTER_S[min(refusals.times, len(RETRY_AFTER_S) - 1)], self._flush_in, loop
        )
        refusals.times += 1

    def _flush_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is self._loop:
            self._flush()

    def _flush_in_thread(self) -> None:
        group = self._take()
        loop = asyncio.get_running_loop()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "durable-workflow-store")
        try:
            flushing = loop.run_in_executor(self._executor, self._begin_and_run, group)
        except (RuntimeError, MemoryError) as error:
            # Without memory, or with too many of them, no thread can be started.
            failed = StoreError(
                f"cannot use the database {self._path}: {error}; nothing was written"
            )
            failed.__cause__ = error
            self._stop_thread()
            _settle(self._all_failed(group, failed))
            if self._queue:
                loop.call_soon(self._flush)
            return

        def settle(done: asyncio.Future[list[_Outcome]]) -> None:
            if flushing is not self._in_thread:
                return  # of a loop that is gone
            self._in_thread = None
            try:
                outcomes = done.result()
            except BaseException as error:  # noqa: BLE001 - whoever asked must hear of it
                outcomes = self._all_failed(group, error)
            if self._is_asked_for_changes:
                self.change_counter()  # one group may follow the other for long
            readers, self._readers = self._readers, []
            for turn in readers:
                if not turn.done():
                    turn.set_result(None)
            _settle(outcomes)
            # What was asked for in the meantime, after those that this has woken.
            asyncio.get_running_loop().call_soon(self._flush)

        self._in_thread = flushing
        flushing.add_done_callback(settle)

    def _begin_and_run(self, group: list[_Queued]) -> list[_Outcome]:
        if self._checkpointer is not None:
            self._checkpointer.wait(CHECKPOINT_FIRST_S)
        if isinstance(group[0][0], Transaction):
            self._set_busy_timeout(BUSY_TIMEOUT_MS)  # nobody but this thread waits for it
            return [self._act(group[0])]
        self._begin()
        outcomes = self._run(group)
        while outcomes is None:
            self._begin()
            outcomes = self._run_one_by_one(group)
        return outcomes

    def _begin(self) -> None:
        self._check_files()
        if self._connection.in_transaction:
            if not self._rollback_failed:
                raise StoreError(
                    "the connection is in a transaction that the store did not begin; commit it or"
                    " roll it back, or give the store a connection of its own"
                )
            self._roll_back_what_is_left()
        self._connection.execute("begin immediate")
        if self._authorizer.has_compiled:
            try:
                self._look_whether_it_was_restored()
            except BaseException:
                self._roll_back()
                raise

    def _look_at_files_now_and_then(self, now: float) -> None:
        if self._is_restored or now >= self._look_at_files_at:
            self._check_files()

    def _check_files(self) -> None:
        if self._files is not None:
            self._files.check()
            self._look_at_files_at = monotonic() + LOOK_AT_FILES_EVERY_S
            if self._is_restored:
                raise self._restored()

    def _is_schema_new(self) -> bool:
        """The backup API gives a database a new schema version, as a changed schema does."""
        self._authorizer.has_compiled = self._load_schema_version() != self._schema_version
        return self._authorizer.has_compiled

    def _look_whether_it_was_restored(self) -> None:
        """To be called before a transaction writes: what it claims is not known to be held yet."""
        version = self._load_schema_version()
        if version != self._schema_version:
            if self._schema_version is not None and not self._is_intact():
                self._is_restored = True
                raise self._restored()
            self._schema_version = version
        self._authorizer.has_compiled = False

    def _load_schema_version(self) -> int:
        (version,) = self._connection.execute("pragma schema_version").fetchone()
        return int(version)

    def _restored(self) -> StoreGoneError:
        return StoreGoneError(
            f"{self._path} was restored while it was open: what this worker had written is not in"
            " it any more. So nothing is written to it or read from it any more, and its executions"
            " are left as they are there. Stop every process that has it open, then start them"
            " again"
        )

    # A function of the user

    def _act(self, one: _Queued, *, has_begun: bool = False) -> _Outcome:
        """Run a function in a transaction; if it has failed, record that in another."""
        transaction, _, future, _ = one
        assert isinstance(transaction, Transaction)
        try:
            return future, self._try(transaction, has_begun=has_begun), None, None
        except FunctionFailedError as failed:
            error = failed.error
        except BaseException as failed:  # noqa: BLE001 - whoever asked must hear of it
            return future, None, self._translated(failed), None
        if transaction.failed is None:
            return future, None, error, None
        try:
            self._begin()
            is_to_be = transaction.may_begin()
            if is_to_be:
                transaction.failed(error)
            self._connection.execute(COMMIT)
        except BaseException as failed:  # noqa: BLE001 - as above
            self._roll_back()
            return future, None, self._translated(failed), None
        if is_to_be and transaction.noted is not None:
            transaction.noted()
        self._after_commit()
        return future, is_to_be, None, None

    def _try(self, transaction: Transaction, *, has_begun: bool) -> bool:
        """Raises FunctionFailedError if it is the function's fault that nothing was written."""
        if not has_begun:
            self._begin()
        version = None
        try:
            if self._files is not None:
                self._look_whether_it_was_restored()
            if not transaction.may_begin():
                self._connection.execute(ROLLBACK)
                return False
            guard = Guard(self._connection, self._authorizer, transaction.timeout_s, self.join)
            result = guard.run(transaction.function)
            self._save(transaction, result)
            guard.check_time()
            if self._files is not None:
                version = self._load_schema_version()  # the function may have made a table
            self._connection.execute(COMMIT)
        except (sqlite3.IntegrityError, TransactionTimeoutError) as error:
            self._roll_back()
            raise FunctionFailedError(error) from error  # as by a key that is checked at the end
        except BaseException as error:
            self._roll_back()
            if isinstance(error, FunctionFailedError) and is_of_the_disk(error.error):
                raise error.error from None
            raise
        if version is not None:
            self._schema_version = version
        if transaction.noted is not None:
            transaction.noted()
        if guard.has_enqueued:
            self.count_change()
        self._after_commit()
        return True

    def _save(self, transaction: Transaction, result: object) -> None:
        if not self._connection.in_transaction:
            raise StoreError("SQLite has rolled back the transaction of a function")
        try:
            transaction.save(result)
        except BaseException as error:
            translated = self._translated(error)
            if isinstance(translated, SerializationError):
                raise FunctionFailedError(translated) from error
            raise

    def _after_commit(self) -> None:
        if self._files is not None:
            self._files.check_log()
        if self._checkpointer is not None:
            self._checkpointer.after_commit()

    @property
    def _is_checkpointing(self) -> bool:
        checkpointer = self._checkpointer
        return checkpointer is not None and checkpointer.wants_lock

    def _set_busy_timeout(self, milliseconds: int) -> None:
        # It costs a quarter of a small transaction: only when it changes.
        if milliseconds != self._busy_timeout_ms:
            self._connection.execute(f"pragma busy_timeout = {milliseconds}")
            self._busy_timeout_ms = milliseconds

    def _run(self, group: list[_Queued]) -> list[_Outcome] | None:
        """Run and commit a group whose transaction has begun; None if it is to be run again."""
        outcomes: list[_Outcome] = []
        shortcuts: dict[str, list[tuple[Any, ...]]] = {}
        try:
            for operation, shortcut, future, noted in group:
                if shortcut is not None and len(group) > 1:
                    statement, values = shortcut
                    shortcuts.setdefault(statement, []).append(values)
                    outcomes.append((future, None, None, noted))
                    continue
                self._send(shortcuts)  # an operation may build on what was asked for before it
                outcomes.append((future, operation(), None, noted))
            self._send(shortcuts)
        except BaseException as error:  # noqa: BLE001
            self._roll_back()
            return self._all_failed(group, error) if len(group) == 1 else None
        return self._commit(outcomes)

    def _send(self, shortcuts: dict[str, list[tuple[Any, ...]]]) -> None:
        """Send what has been collected of each statement; raise if one changed nothing."""
        for statement, rows in shortcuts.items():
            if self._connection.executemany(statement, rows).rowcount != len(rows):
                raise _NothingChangedError
        shortcuts.clear()

    def _run_one_by_one(self, group: list[_Queued]) -> list[_Outcome] | None:
        """As `_run`, with each operation behind a savepoint, so that it fails alone."""
        outcomes: list[_Outcome] = []
        try:
            for operation, _, future, noted in group:
                self._connection.execute("savepoint one")
                try:
                    result = operation()
                except BaseException as error:
                    if not self._connection.in_transaction:
                        raise  # SQLite gave up on all of it, as it may on a full disk
                    self._connection.execute("rollback to one")
                    outcomes.append((future, None, self._translated(error), None))
                else:
                    outcomes.append((future, result, None, noted))
                self._connection.execute("release one")
        except BaseException as error:  # noqa: BLE001
            self._roll_back()
            return self._all_failed(group, error)
        return self._commit(outcomes)

    def _commit(self, outcomes: list[_Outcome]) -> list[_Outcome] | None:
        """None if it is to be run again: the database may not be the one that it was meant for."""
        try:
            if self._authorizer.has_compiled and self._is_schema_new():
                self._roll_back()
                return None
            self._connection.execute(COMMIT)
            if self._files is not None:
                self._files.check_log()
        except (*FAILURES, StoreGoneError) as error:
            self._roll_back()
            return [
                (future, None, failed or self._translated(error), None)
                for future, _, failed, _ in outcomes
            ]
        for _, result, _, noted in outcomes:
            if noted is not None:
                noted(result)
        if self._checkpointer is not None:
            self._checkpointer.after_commit()
        return outcomes

    def _roll_back(self) -> None:
        # SQLite rolls back by itself on some errors; a second failure must not hide the first.
        if self._connection.in_transaction:
            try:
                self._connection.execute(ROLLBACK)
            except FAILURES:
                self._rollback_failed = True

    def _roll_back_what_is_left(self) -> None:
        """Its writers were told that it failed: nobody may read of it, or commit it."""
        if self._rollback_failed:
            if self._connection.in_transaction:
                self._connection.execute(ROLLBACK)
            self._rollback_failed = False

    def _all_failed(self, group: list[_Queued], error: BaseException) -> list[_Outcome]:
        return [(future, None, self._translated(error), None) for _, _, future, _ in group]

    def _translated(self, error: BaseException) -> BaseException:
        if self._authorizer.has_compiled:
            # What was restored may be why it failed, as by a claim that is not there.
            try:
                self._look_whether_it_was_restored()
            except StoreGoneError as restored:
                return restored
            except (*FAILURES, StoreError):
                pass  # it will be looked at again
        if isinstance(error, sqlite3.DataError | OverflowError):
            too_long = SerializationError(f"the database cannot hold a value this long: {error}")
            too_long.__cause__ = error
            return too_long
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_CHECK:
            refused = SerializationError(f"the database refuses a value: {error}")
            refused.__cause__ = error
            return refused
        if not isinstance(error, FAILURES):
            return error
        translated = translate(error, "use the database", self._path)
        translated.__cause__ = error
        return translated


def _settle(outcomes: list[_Outcome]) -> None:
    for future, result, error, _ in outcomes:
        if future.done():
            continue  # its task was cancelled meanwhile
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
