"""A call of a function of the user in a transaction of a store: its time, and what it did wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, NoReturn, TypeVar

from durable_workflow_sqlite.errors import TransactionMisuseError, TransactionTimeoutError

T = TypeVar("T")

OF_THE_LIBRARY: Final = (
    "`{}` in a function that runs in a transaction of the store: the library commits it, with what"
    " it records, when the function has returned, and rolls it back when the function has raised;"
    " leave it out"
)


class FunctionFailedError(Exception):
    """What the function did is not to be committed."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class GuardedCall:
    """Of one function; each kind of database adds how it watches over it."""

    def __init__(self, timeout_s: float, join: Callable[[Any], Any]) -> None:
        """join: gives the store in the transaction of the connection."""
        self.timeout_s = timeout_s
        self.join = join
        self._ends_at = monotonic() + timeout_s
        self.refused: str | None = None
        """What it did that it may not do."""
        self.has_enqueued = False
        """Whether it has written for other executions."""

    def call(self, function: Callable[[Any], T], connection: object) -> tuple[T | None, Any]:
        """Its result, or the error that it raised."""
        try:
            result = function(connection)
            if inspect.isawaitable(result):
                if inspect.iscoroutine(result):
                    result.close()
                raise TypeError(
                    f"{function!r} is async: a function that runs in a transaction of the store"
                    " must not wait for anything else; give one that is not"
                )
        except BaseException as error:  # noqa: BLE001 - whatever it raises
            return None, error
        return result, None

    def refuse(self, what: str) -> NoReturn:
        self.note(OF_THE_LIBRARY.format(what))
        raise TransactionMisuseError(OF_THE_LIBRARY.format(what))

    def note(self, why: str) -> None:
        self.refused = self.refused or why

    def is_late(self) -> bool:
        return monotonic() >= self._ends_at

    def check_time(self) -> None:
        """Raise TransactionTimeoutError if it has taken too long."""
        if self.is_late():
            raise TransactionTimeoutError(
                f"a function in a transaction took longer than {self.timeout_s:g} s; nothing of it"
                " was written. Others wait meanwhile: do what takes long before the transaction,"
                " or give it a longer timeout"
            )

    def check_what_is_left(self, error: BaseException | None) -> None:
        """Raise FunctionFailedError if it is not to be committed. error: what it raised."""
        if self.refused is not None:
            misuse = TransactionMisuseError(self.refused)
            misuse.__cause__ = error
            raise FunctionFailedError(misuse)
        try:
            self.check_time()
        except TransactionTimeoutError as late:
            late.__cause__ = error
            raise FunctionFailedError(late) from None
        if error is not None:
            raise FunctionFailedError(error)


def cannot_join(_: Any) -> Any:
    """For a function that only reads."""
    raise TransactionMisuseError(
        "a function that was given to `read` cannot enqueue or send: give it to `write`"
    )
