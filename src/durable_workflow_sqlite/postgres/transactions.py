"""One transaction for all writes of one turn of the event loop, in a thread of its own.

Writes queue up while the tasks of a turn run, and while the group before is under way; then they
are sent together, and each caller's `await` returns after the commit. An operation that raises
fails alone: its group is rolled back, and run again with a savepoint before each. A group that only
another transaction was in the way of is run again, too.

When the connection is lost before the commit was sent, nothing is written: the group is run again
in a new session. Once the commit was sent, nobody knows: its callers get a StoreError.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import events
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar, cast

import psycopg

from durable_workflow_sqlite.errors import (
    SerializationError,
    StoreError,
    TransactionTimeoutError,
)
from durable_workflow_sqlite.loops import running_loop
from durable_workflow_sqlite.postgres.failures import (
    is_of_another_writer,
    is_of_the_server,
    is_to_be_tried_again,
    translated,
)
from durable_workflow_sqlite.postgres.guard import Guard
from durable_workflow_sqlite.postgres.presence import Presence
from durable_workflow_sqlite.postgres.queries import Queries
from durable_workflow_sqlite.postgres.session import Session, without_password
from durable_workflow_sqlite.postgres.user_reader import UserReader
from durable_workflow_sqlite.store.guarded_calls import FunctionFailedError, cannot_join
from durable_workflow_sqlite.store.transactions import Shortcut, Transaction, Transactions

T = TypeVar("T")

TRIES: Final = 10
"""How often a transaction is run that others are in the way of, or that lost its session."""


class _Asked(NamedTuple):
    operation: Any
    """It is called without arguments, or is a `Transaction`."""
    shortcut: Shortcut | None
    future: asyncio.Future[Any]


_Outcome = tuple["asyncio.Future[Any]", Any, BaseException | None]


class _NothingChangedError(Exception):
    """A shortcut changed no row: its operation is to be run instead."""


class PostgresTransactions(Transactions):
    """The one way to a session: see `Transactions`.

    on_failure: called in the thread when a group has failed, before it is run again.
    """

    def __init__(
        self,
        session: Session,
        queries: Queries,
        schema: str,
        presence: Presence,
        on_failure: Callable[[], None],
    ) -> None:
        self._session = session
        self._queries = queries
        self._schema = schema
        self._presence = presence
        self._on_failure = on_failure
        self._where = without_password(session.url)
        self._reads: list[_Asked] = []
        self._writes: list[_Asked] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._in_thread: asyncio.Future[list[_Outcome]] | None = None
        self._executor = ThreadPoolExecutor(1, "durable-workflow-postgres")
        self._reader = UserReader(session, schema)
        self.join: Callable[[Any], Any] = cannot_join
        self._in_transaction = False
        self._change_counter = 0
        self._process = os.getpid()
        self._closed = False

    async def write(
        self,
        operation: Callable[[], T],
        shortcut: Shortcut | None = None,
        noted: Callable[[T], object] | None = None,
    ) -> T:
        result = cast("T", await self._ask(self._writes, operation, shortcut))
        if noted is not None:
            noted(result)
        return result

    async def read(self, operation: Callable[[], T]) -> T:
        return cast("T", await self._ask(self._reads, operation, None))

    async def transact(self, transaction: Transaction) -> bool:
        # In an operation, as any other: what it is, `_run` sees.
        is_done = cast("bool", await self._ask(self._writes, transaction, None))
        if is_done and transaction.noted is not None:
            transaction.noted()
        return is_done

    async def look(self, function: Callable[[Any], T], timeout_s: float) -> T:
        try:
            return await self._reader.run(self._enter(), function, timeout_s)
        except FunctionFailedError as failed:
            raise failed.error from failed.error.__cause__

    async def _ask(
        self,
        queue: list[_Asked],
        operation: Callable[[], T] | Transaction,
        shortcut: Shortcut | None,
    ) -> Any:
        loop = self._enter()
        future: asyncio.Future[Any] = loop.create_future()
        queue.append(_Asked(operation, shortcut, future))
        if len(self._reads) + len(self._writes) == 1 and self._in_thread is None:
            loop.call_soon(self._flush)
        return await future

    def execute(self, statement: Shortcut) -> int:
        changed: int = self._session.execute(*statement).rowcount
        return changed

    def total_changes(self) -> int:
        return 0  # others are told of each end, so what triggers wrote is known

    def count_change(self) -> None:
        self._change_counter += 1
        self._session.others_wait = True

    def change_counter(self) -> int:
        return self._change_counter + self._presence.heard

    def check_usable(self) -> None:
        self._enter()

    def hold_execution(self, workflow_execution_id: str) -> None:
        if self._in_transaction:
            self._queries.hold_execution(self._session, workflow_execution_id=workflow_execution_id)

    def hold(self, kind: str, name: str) -> None:
        if self._in_transaction:
            self._queries.hold(self._session, kind=f"{self._schema} {kind}", name=name)

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that opened the session."""
        return self._process != os.getpid()

    async def close(self) -> None:
        """Write what is queued, then refuse everything."""
        if self._closed:
            return
        if self.is_inherited:
            self._closed = True  # the parent's, and none of this process's business
            return
        loop = running_loop(of="a store")
        if self._reads or self._writes or self._in_thread is not None:
            self._enter()
        elif self._loop is not None and self._loop is not loop and self._loop.is_running():
            raise _is_of_another_loop()
        self._closed = True
        while self._reads or self._writes or self._in_thread is not None:
            if self._in_thread is None:
                self._flush()
            if self._in_thread is not None:
                await asyncio.wait([self._in_thread])
                await asyncio.sleep(0)
        await self._reader.close(loop)
        await loop.run_in_executor(self._executor, self._session.close)
        self._executor.shutdown()

    def _enter(self) -> asyncio.AbstractEventLoop:
        loop = events._get_running_loop()
        if loop is None or loop is not self._loop or self._closed or self.is_inherited:
            loop = self._enter_anew()
        return loop

    def _enter_anew(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise StoreError("the store is closed")
        if self.is_inherited:
            raise StoreError(
                "this process was forked after the store was opened, and both processes must not"
                " use the same connection; open a new store after the fork"
            )
        loop = running_loop(of="a store")
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise _is_of_another_loop()
            self._loop = loop
            self._reads.clear()  # what a loop that is gone never waited for
            self._writes.clear()
            self._in_thread = None
        return loop

    def _flush(self) -> None:
        if self._in_thread is not None or not (self._reads or self._writes):
            return
        reads, self._reads = self._reads, []
        writes = self._next_writes()
        assert self._loop is not None
        try:
            under_way = self._loop.run_in_executor(self._executor, self._run, reads, writes)
        except (RuntimeError, MemoryError) as error:
            # The process ends, or has too many threads: no thread can be started.
            failed = StoreError(f"cannot use {self._where}: {error}; nothing was written")
            failed.__cause__ = error
            _settle(self._all_failed([*reads, *writes], failed))
            return

        def settle(done: asyncio.Future[list[_Outcome]]) -> None:
            if under_way is not self._in_thread:
                return  # of a loop that is gone
            self._in_thread = None
            try:
                outcomes = done.result()
            except BaseException as error:  # noqa: BLE001 - whoever asked must hear of it
                outcomes = self._all_failed([*reads, *writes], error)
            _settle(outcomes)
            # What was asked for in the meantime, after those that this has woken.
            asyncio.get_running_loop().call_soon(self._flush)

        self._in_thread = under_way
        under_way.add_done_callback(settle)

    def _next_writes(self) -> list[_Asked]:
        """A group, or one function of the user alone, in the order in which they were asked for."""
        for number, one in enumerate(self._writes):
            if isinstance(one.operation, Transaction):
                group = self._writes[: number or 1]
                del self._writes[: number or 1]
                return group
        group, self._writes = self._writes, []
        return group

    # In the thread

    def _run(self, reads: list[_Asked], writes: list[_Asked]) -> list[_Outcome]:
        outcomes = [self._read(one) for one in reads]
        if writes:
            if isinstance(writes[0].operation, Transaction):
                outcomes.append(self._act(writes[0].operation, writes[0].future))
            else:
                outcomes += self._write(writes)
            self._tell_others()
        return outcomes

    def _read(self, one: _Asked) -> _Outcome:
        for _ in range(TRIES - 1):
            try:
                return one.future, one.operation(), None
            except psycopg.Error as error:
                if not (self._session.is_lost or is_to_be_tried_again(error)):
                    return one.future, None, translated(error, self._where)
            except Exception as error:  # noqa: BLE001
                return one.future, None, error
        try:
            return one.future, one.operation(), None
        except Exception as error:  # noqa: BLE001
            return one.future, None, translated(error, self._where)

    def _act(self, transaction: Transaction, future: asyncio.Future[Any]) -> _Outcome:
        """Run a function in a transaction; if it has failed, record that in another."""
        failed: BaseException | None = None
        left = TRIES
        while True:
            left -= 1
            self._session.others_wait = is_sent = False
            try:
                self._begin()
                is_to_be = transaction.may_begin()
                if is_to_be and failed is None:
                    self._call(transaction)
                elif is_to_be and transaction.failed is not None and failed is not None:
                    transaction.failed(failed)
                is_sent = True
                self._end("commit")
            except BaseException as error:  # noqa: BLE001 - whoever asked must hear of it
                of_function = error.error if isinstance(error, FunctionFailedError) else None
                why = of_function or error
                is_lost = self._session.is_lost
                self._roll_back()
                self._on_failure()
                if is_lost and is_sent:
                    return future, None, _not_known(self._where, why)
                if left and (is_lost or is_to_be_tried_again(why)):
                    continue
                if of_function is None or is_lost or is_of_the_server(of_function):
                    return future, None, translated(why, self._where)
                if transaction.failed is None or failed is not None:
                    return future, None, why
                failed, left = of_function, TRIES
            else:
                return future, is_to_be, None

    def _call(self, transaction: Transaction) -> None:
        guard = Guard(self._session, self._schema, transaction.timeout_s, self.join)
        result = guard.run(transaction.function)
        try:
            # What is checked at the end otherwise, where nobody could say whose fault it is.
            self._session.execute("set constraints all immediate")
        except psycopg.IntegrityError as error:
            raise FunctionFailedError(error) from error
        try:
            transaction.save(result)
            guard.check_time()
        except TransactionTimeoutError as late:
            raise FunctionFailedError(late) from late
        except BaseException as error:
            refused = translated(error, self._where)
            if isinstance(refused, SerializationError):
                raise FunctionFailedError(refused) from error
            raise
        if guard.has_enqueued:
            self._session.others_wait = True

    def _write(self, group: list[_Asked]) -> list[_Outcome]:
        one_by_one = False
        if all(one.shortcut is not None for one in group):
            if self._run_shortcuts(group):
                return [(one.future, None, None) for one in group]
            one_by_one = True
        error: BaseException | None = None
        for _ in range(TRIES):
            self._session.others_wait = False
            is_sent = False
            try:
                self._begin()
                outcomes = self._run_one_by_one(group) if one_by_one else self._run_all(group)
                is_sent = True
                self._end("commit")
            except BaseException as failed:  # noqa: BLE001
                error = failed
                self._roll_back()
                self._on_failure()
                if self._session.is_lost:
                    if is_sent:
                        return self._all_failed(group, _not_known(self._where, failed))
                elif is_of_another_writer(failed) or isinstance(failed, _NothingChangedError):
                    one_by_one = True
                elif not is_to_be_tried_again(failed):
                    if one_by_one or len(group) == 1:
                        break
                    one_by_one = True
            else:
                return outcomes
        assert error is not None
        return self._all_failed(group, error)

    def _run_shortcuts(self, group: list[_Asked]) -> bool:
        """Run a group of nothing but shortcuts, which is most of them, in one round trip.

        False if the operations are to be run: they may be, whatever has become of the shortcuts.
        """
        shortcuts: dict[str, list[tuple[Any, ...]]] = {}
        for one in group:
            assert one.shortcut is not None
            shortcuts.setdefault(one.shortcut[0], []).append(one.shortcut[1])
        try:
            if len(group) == 1:
                ((statement, (values,)),) = shortcuts.items()
                return bool(self._session.execute(statement, values).rowcount)
            return self._session.execute_many(shortcuts) == len(group)
        except psycopg.Error:
            return False

    def _begin(self) -> None:
        self._session.execute("begin isolation level read committed")
        self._in_transaction = True

    def _end(self, how: str) -> None:
        self._in_transaction = False
        self._session.execute(how)

    def _roll_back(self) -> None:
        self._in_transaction = False
        if not self._session.is_lost:
            with suppress(psycopg.Error):  # a second failure must not hide the first
                self._session.execute("rollback")

    def _run_all(self, group: list[_Asked]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        shortcuts: dict[str, list[tuple[Any, ...]]] = {}
        for operation, shortcut, future in group:
            if shortcut is not None:
                statement, values = shortcut
                shortcuts.setdefault(statement, []).append(values)
                outcomes.append((future, None, None))
                continue
            self._send(shortcuts)  # an operation may build on what was asked for before it
            outcomes.append((future, operation(), None))
        self._send(shortcuts)
        return outcomes

    def _send(self, shortcuts: dict[str, list[tuple[Any, ...]]]) -> None:
        """Send what has been collected of each statement; raise if one changed nothing."""
        if not shortcuts:
            return
        if self._session.execute_many(shortcuts) != sum(map(len, shortcuts.values())):
            raise _NothingChangedError
        shortcuts.clear()

    def _run_one_by_one(self, group: list[_Asked]) -> list[_Outcome]:
        """As `_run_all`, with each operation behind a savepoint, so that it fails alone."""
        outcomes: list[_Outcome] = []
        for operation, _, future in group:
            for may_be_again in (True, False):
                self._session.execute("savepoint one")
                try:
                    outcome: _Outcome = future, operation(), None
                except BaseException as error:
                    if self._session.is_lost or is_to_be_tried_again(error):
                        raise
                    self._session.execute("rollback to one")
                    self._on_failure()
                    if may_be_again and is_of_another_writer(error):
                        continue  # it sees now what it did not see
                    outcome = future, None, translated(error, self._where)
                outcomes.append(outcome)
                break
            self._session.execute("release one")
        return outcomes

    def _tell_others(self) -> None:
        if self._session.others_wait:
            self._session.others_wait = False
            self._change_counter += 1  # triggers may have sent signals to executions here
            with suppress(psycopg.Error):  # a hint: they look now and then without it
                self._queries.tell_others(self._session, channel=self._schema)

    def _all_failed(self, group: list[_Asked], error: BaseException) -> list[_Outcome]:
        return [(one.future, None, translated(error, self._where)) for one in group]


def _settle(outcomes: list[_Outcome]) -> None:
    for future, result, failed in outcomes:
        if future.done():
            continue  # its task was cancelled meanwhile
        if failed is None:
            future.set_result(result)
        else:
            future.set_exception(failed)


def _not_known(where: str, error: BaseException) -> StoreError:
    unknown = StoreError(
        f"the connection to {where} was lost during a commit, so it is not known whether it was"
        f" written: {str(error).strip()}"
    )
    unknown.__cause__ = error
    return unknown


def _is_of_another_loop() -> RuntimeError:
    return RuntimeError(
        "this store is in use by another event loop; open one store for each loop, or"
        " use it from there: `asyncio.run_coroutine_threadsafe(store.save(...), loop)`"
    )
