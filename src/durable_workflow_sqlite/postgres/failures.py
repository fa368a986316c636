"""Errors of PostgreSQL to the errors of this library."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors

from durable_workflow_sqlite.errors import (
    SerializationError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreReadOnlyError,
)
from durable_workflow_sqlite.store.moves import MOVED, MOVED_ELSEWHERE

_REFUSED: Final = (
    errors.CheckViolation,
    errors.DataError,  # too long, no JSON, out of range, or text with a NUL
)

_CAUSES: Final[tuple[tuple[type[psycopg.Error], type[StoreError], str], ...]] = (
    (errors.DiskFull, StoreFullError, "its disk is full; make room and try again"),
    (
        errors.LockNotAvailable,
        StoreBusyError,
        "someone else holds a lock; find who has a transaction open, and try again",
    ),
    (
        errors.ReadOnlySqlTransaction,
        StoreReadOnlyError,
        "it is read-only; give the address of the server that takes writes",
    ),
    (
        errors.InsufficientPrivilege,
        StoreReadOnlyError,
        "the user may not do that; give it the rights to the schema",
    ),
)


_OF_THE_SERVER: Final = (errors.DiskFull, errors.IoError, errors.OutOfMemory)


def is_of_the_server(error: BaseException) -> bool:
    """Whether the disk or the memory of the server is at fault, whatever the statement was."""
    return isinstance(error, _OF_THE_SERVER)


def is_to_be_tried_again(error: BaseException) -> bool:
    """Whether the same transaction may succeed, since only another one was in its way."""
    return isinstance(error, errors.SerializationFailure | errors.DeadlockDetected)


def is_of_another_writer(error: BaseException) -> bool:
    """Whether somebody else has written what this operation looked for and did not see."""
    return isinstance(error, errors.UniqueViolation | errors.ForeignKeyViolation)


def translated(error: BaseException, where: str) -> BaseException:
    """The error that a caller gets for one of PostgreSQL; any other stays as it is.

    where: the database, without a password.
    """
    if not isinstance(error, psycopg.Error):
        return error
    said = str(error).strip().partition("\n")[0]
    if isinstance(error, errors.RaiseException) and MOVED in said:
        refused: BaseException = StoreMovedError(f"cannot use {where}: {MOVED_ELSEWHERE}")
    elif isinstance(error, _REFUSED):
        refused = SerializationError(f"the database refuses a value: {said}")
    else:
        refused = StoreError(f"cannot use {where}: {said}")
        for kind, of_ours, why in _CAUSES:
            if isinstance(error, kind):
                refused = of_ours(f"cannot use {where}: {why} (PostgreSQL says: {said})")
    refused.__cause__ = error
    return refused
