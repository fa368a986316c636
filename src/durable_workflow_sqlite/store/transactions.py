"""What the rooms of a store need of its database: transactions, and who lives.

The rooms send the statements of `Queries`, the same on SQLite and on PostgreSQL. What differs is
how a transaction comes about, and what keeps two workers apart. SQLite has one writer at a time, so
what a transaction has read stays true until it ends. PostgreSQL has many: there, `hold_execution`
and `hold` keep others from what a transaction is about to look at, and then to change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
Shortcut = tuple[str, tuple[Any, ...]]
"""A statement and its values, instead of an operation: see `Transactions.write`."""


AsStatement = Callable[..., tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]]
"""Of a loaded query and its parameters in some order: its statement, and what puts values that are
given in that order into the order of the statement."""


class Transaction(NamedTuple):
    """A function of the user that runs in a transaction of its own, and what belongs to it.

    may_begin: called first, in the transaction; if it gives False, nothing else is done.
    function: called with the connection; guarded, and for `timeout_s` at the longest.
    save: called with its result, in the same transaction.
    failed: called with the error if the function failed, or its result could not be saved. That is
        in another transaction, after `may_begin`; the first one was rolled back. If there is none,
        the caller gets the error.
    noted: as for `Transactions.write`, if something was saved.
    """

    may_begin: Callable[[], bool]
    function: Callable[[Any], Any]
    save: Callable[[Any], None]
    failed: Callable[[BaseException], None] | None
    timeout_s: float
    noted: Callable[[], object] | None = None


class Transactions(Protocol):
    """The one way to a connection: writes in groups, reads between them.

    `operation`s run on the connection, in the loop's thread or in another, never two at a time.
    One that writes may run again, when another of its group failed the first time. So it may only
    send statements and return what they gave.
    """

    async def write(
        self,
        operation: Callable[[], T],
        shortcut: Shortcut | None = None,
        noted: Callable[[T], object] | None = None,
    ) -> T:
        """Run an operation in the next transaction; return its result once that is committed.

        shortcut: does the same in one statement, if that changes a row; the result is None then.
            Those of a group are sent together. If one changes nothing, its operation is run.
        noted: called with the result as soon as that is committed, in any thread. Nothing else is
            done with the connection before. A caller that was cancelled changes nothing about it.
        """
        ...

    async def read(self, operation: Callable[[], T]) -> T:
        """Run an operation that only reads, outside of any transaction."""
        ...

    async def transact(self, transaction: Transaction) -> bool:
        """Run a function of the user, after all that was asked for before; what `may_begin` gave.

        It may run several times, when others are in its way; what it wrote then was rolled back.
        """
        ...

    async def look(self, function: Callable[[Any], T], timeout_s: float) -> T:
        """Run a function of the user that only reads: of one state of the database."""
        ...

    def execute(self, statement: Shortcut) -> int:
        """Send a statement from within an operation; how many rows it has changed."""
        ...

    def total_changes(self) -> int:
        """How many rows this connection has changed, also by triggers; 0 if that is not known."""
        ...

    def count_change(self) -> None:
        """This connection has committed something that its other users must notice."""
        ...

    def change_counter(self) -> int:
        """A number that grows when another connection has committed, and with `count_change`."""
        ...

    def check_usable(self) -> None:
        """Raise for one that is closed, or that nobody can use here."""
        ...

    def hold_execution(self, workflow_execution_id: str) -> None:
        """Nobody else claims or changes an execution until the transaction ends."""
        ...

    def hold(self, kind: str, name: str) -> None:
        """No other transaction holds the same until this one ends. It does nothing in a read."""
        ...


class Liveness(Protocol):
    """Whether a worker lives, as something knows it that outlives the worker."""

    @property
    def worker_id(self) -> str: ...

    def acquire(self) -> None:
        """Become visible as alive. Harmless when done already. Raises OSError or StoreError."""
        ...

    def is_alive(self, worker_id: str) -> bool:
        """Whether another worker lives. Called from within an operation."""
        ...

    def count_alive(self) -> int:
        """How many workers live, this one included. Called from within an operation."""
        ...
