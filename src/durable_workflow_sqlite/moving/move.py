"""One move, from one database to another: fence the one, copy, compare, open the other.

Each part of it is a transaction, and looks first what has been done already. So a move that was
interrupted goes on where it stopped, and one that is finished does nothing. The rows of a table are
copied in the order of its key, and nobody writes them meanwhile. So the number of rows in the
target says where to go on.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import zip_longest
from typing import Final, NamedTuple

import msgspec

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.moving.database import TABLES, MovableDatabase, Row

ROWS_AT_ONCE: Final = 20_000
CHARACTERS_AT_ONCE: Final = 8_000_000
"""A transaction copies no more than this, except for one row that is longer."""

TOLD_EVERY: Final = 1000
"""So many rows are compared before `on_progress` is called."""

Progress = Callable[[str, int, int], object]
"""Is told what is done ("copying" or "comparing"), how many rows are done, and of how many."""


class Moved(NamedTuple):
    """A table of both databases: how many rows it has, and the SHA-256 of them."""

    table: str
    rows: int
    digest: str


def move(
    source: MovableDatabase,
    target: MovableDatabase,
    *,
    moved_by: str,
    now: Callable[[], datetime],
    on_progress: Progress,
) -> list[Moved]:
    """Move all that `source` holds to `target`; nothing, if that is done already.

    Returns what was moved; [] if nothing was left to do. Raises StoreError. What has been done by
    then stays, and the same call goes on.
    """
    check_two(source, target)
    target.have_it_alone()
    if is_finished(source, target):
        return []
    before = source.moves().out
    move_id = uuid.uuid4().hex if before is None else before.move_id
    if before is None:
        source.check()
        source.fence(move_id, target.name, moved_by, now())
    into = target.moves().into
    if into is None:
        target.begin(move_id, source.name, moved_by, now())
    moved: list[Moved] = []
    if into is None or not into.is_finished:
        _copy(source, target, on_progress)
        moved = _compare(source, target, on_progress)
        target.finish(now())
    source.finish(now())
    return moved


def check_two(source: MovableDatabase, target: MovableDatabase) -> None:
    """Raise StoreError if both are one database."""
    if source.name == target.name:
        raise StoreError(f"cannot move {source.name} to itself; give another database")


def is_finished(source: MovableDatabase, target: MovableDatabase) -> bool:
    """Whether the one has been moved to the other. Raises StoreError if it cannot be."""
    theirs, ours = source.moves(), target.moves()
    if theirs.into is not None and not theirs.into.is_finished:
        raise StoreError(
            f"cannot move {source.name}: the move into it from {theirs.into.other} is not finished"
        )
    if ours.out is not None:
        raise StoreError(
            f"cannot move anything to {target.name}: it was moved to {ours.out.other} itself"
        )
    if theirs.out is not None and (ours.into is None or ours.into.move_id != theirs.out.move_id):
        began = ours.into is None and not theirs.out.is_finished and theirs.out.other == target.name
        if not began:
            was = "was moved" if theirs.out.is_finished else "is being moved"
            raise StoreError(
                f"cannot move {source.name} to {target.name}: it {was} to {theirs.out.other}"
            )
    if ours.into is not None and (theirs.out is None or theirs.out.move_id != ours.into.move_id):
        raise StoreError(
            f"cannot move {source.name} to {target.name}, which holds what was moved there from"
            f" {ours.into.other}; give a database, or a schema, that holds nothing"
        )
    if ours.into is None and (held := {name: n for name, n in target.count_rows().items() if n}):
        table, rows = next(iter(held.items()))
        raise StoreError(
            f"cannot move {source.name} to {target.name}, which is not empty ({rows:,} rows in"
            f" {table}); give a database, or a schema, that holds nothing"
        )
    return theirs.out is not None and theirs.out.is_finished


def give_up(source: MovableDatabase, target: MovableDatabase | None) -> None:
    """Give up an unfinished move: workers may write to `source` again. Raises StoreError.

    target: where it is being moved to; None if there is no such database. Its workers may be at
        work already, though `source` has not been told that the move is finished.
    """
    out = source.moves().out
    if out is None:
        raise StoreError(f"{source.name} is not being moved")
    is_finished = out.is_finished
    if target is not None:
        if target.name != out.other:
            raise StoreError(
                f"{source.name} is being moved to {out.other}, and not to {target.name}"
            )
        target.have_it_alone()
        into = target.moves().into
        is_finished |= into is not None and into.is_finished and into.move_id == out.move_id
    if is_finished:
        raise StoreError(
            f"{source.name} was moved to {out.other}, where its executions run now; to give it up"
            " would run them twice"
        )
    source.unfence()


def _copy(source: MovableDatabase, target: MovableDatabase, on_progress: Progress) -> None:
    total = sum(source.count_rows().values())
    there = target.count_rows()
    done = sum(there.values())
    on_progress("copying", done, total)
    for table in TABLES:
        for rows in _in_parts(source.rows(table, there[table])):
            target.write(table, rows)
            done += len(rows)
            on_progress("copying", done, total)


def _in_parts(rows: Iterator[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    characters = 0
    for row in rows:
        part.append(row)
        characters += sum(len(value) for value in row if isinstance(value, str))
        if len(part) >= ROWS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _compare(
    source: MovableDatabase, target: MovableDatabase, on_progress: Progress
) -> list[Moved]:
    """Read every row of both. Raises StoreError for the first that differs."""
    total = sum(source.count_rows().values())
    on_progress("comparing", 0, total)
    moved: list[Moved] = []
    done = 0
    for table in TABLES:
        digest = hashlib.sha256()
        number = 0
        for number, (theirs, ours) in enumerate(
            zip_longest(source.rows(table), target.rows(table)), 1
        ):
            if theirs != ours:
                raise StoreError(
                    f"cannot finish the move of {source.name} to {target.name}: row {number} of"
                    f" {table} is not the same in both. Somebody has written to one of them; give"
                    " the move up, empty the target, and move it again"
                )
            digest.update(msgspec.msgpack.encode(theirs))
            done += 1
            if done % TOLD_EVERY == 0:
                on_progress("comparing", done, total)
        moved.append(Moved(table, number, digest.hexdigest()))
    on_progress("comparing", done, total)
    return moved
