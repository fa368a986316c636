"""One thing done to one execution, or to many: which they are, the doing, and what became of it.

The command line and the dashboard show, ask and sum up in their own ways; what they do is here.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Final, Self

import msgspec

from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.engine.client import Client
from durable_workflow_sqlite.errors import (
    DurableWorkflowError,
    ExecutionNotFoundError,
    StoreCorruptError,
    StoreError,
)
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.reading.selection import Selection
from durable_workflow_sqlite.stores import open_store

SHOWN: Final = 10
"""So many are shown before anything is done."""

AT_ONCE: Final = 50
"""So many acts at a time: their writes share commits."""

DELETED_AT_ONCE: Final = 500
"""So many executions are deleted in one transaction."""

_REASONS: Final = 100
"""So many reasons of refusals are told apart."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to an execution.

    act: does it, and returns what to say of it. Raises DurableWorkflowError or ValueError if it
        cannot be done.
    name, done: as in "would retry 3 executions", "retried 3".
    statuses: of those that it is for, where no status is given. is_for_blocked, is_for_paused: only
        for those.
    """

    name: str
    done: str
    act: Callable[[Client, str], Awaitable[str]]
    statuses: Sequence[str] = ()
    is_for_blocked: bool = False
    is_for_paused: bool = False


class Ids:
    """Any number of ids, in a file of its own that nobody sees: each once, in their order.

    sample: the first of them.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - `close` closes it
        self.sample: list[str] = []
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget them."""
        self._file.close()

    def __del__(self) -> None:
        self.close()

    def __len__(self) -> int:
        return self.count

    def add(self, ids: Iterable[str]) -> None:
        for one in ids:
            if self.count < SHOWN:
                self.sample.append(one)
            self.count += 1
            self._file.write(msgspec.json.encode(one) + b"\n")

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        for line in self._file:
            yield msgspec.json.decode(line, type=str)


class Refusals(msgspec.Struct):
    """How many refused for the same reason, and the id of the first of them."""

    count: int
    first: str


class BulkOutcome:
    """The result for each, counted at once, so that it is known after an interruption.

    reasons: of those that refused, with "…" in the place of their ids.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.refused = 0
        self.reasons: dict[str, Refusals] = {}

    @property
    def is_whole(self) -> bool:
        """Whether all was done."""
        return self.done == self.total

    @property
    def tried(self) -> int:
        return self.done + self.refused

    def is_done(self, text: str) -> None:
        """One was done; `text` is what to say of it."""
        self.done += 1

    def is_refused(self, execution_id: str, why: str) -> None:
        """One could not be done."""
        self.refused += 1
        reason = " ".join(why.replace(execution_id, "…").split())
        if (same := self.reasons.get(reason)) is not None:
            same.count += 1
        elif len(self.reasons) < _REASONS:
            self.reasons[reason] = Refusals(1, execution_id)

    def summary(self, done: str) -> str:
        text = f"{done} {self.done:,}"
        if self.refused:
            text += f", refused {self.refused:,}"
        if left := self.total - self.tried:
            text += f", not tried {left:,}"
        return text


Advance = Callable[[int], object]
"""Is told how many were tried so far."""


def selection_of(
    reader: Reader,
    chosen: Chosen,
    now: datetime,
    statuses: Sequence[str],
    *,
    only_blocked: bool = False,
    only_paused: bool = False,
) -> Selection:
    """What an action is done to. `statuses`: where neither one nor a state is chosen.

    Raises ValueError, as `Chosen.selection`.
    """
    if only_blocked:
        chosen = msgspec.structs.replace(chosen, is_blocked=True)
    if only_paused:
        chosen = msgspec.structs.replace(chosen, is_paused=True)
    by_state = chosen.is_blocked or chosen.in_trouble or chosen.is_not_undone
    by_state = by_state or only_paused
    return chosen.selection(reader, now, () if by_state else statuses)


async def do_one(file: str, wanted: Command, execution_id: str) -> str:
    """Do it to one, and return what to say. Raises what it refuses with."""
    async with open_store(file) as store:
        return await _do(file, wanted, Client(store), execution_id)


async def do_all(
    file: str,
    wanted: Command,
    ids: Iterable[str],
    outcome: BulkOutcome,
    advance: Advance,
    is_stopped: Callable[[], bool] = lambda: False,
) -> StoreError | None:
    """Do it to all, some at a time; the error of the file that ended it before, or None.

    Each is judged when its turn comes: what has changed since it was chosen may refuse.
    is_stopped: asked before each; if it says so, no other is begun.
    """
    trouble: StoreError | None = None
    todo = iter(ids)

    async def work(client: Client) -> None:
        nonlocal trouble
        for one in todo:
            if trouble is not None or is_stopped():
                return
            try:
                outcome.is_done(await _do(file, wanted, client, one))
            except StoreError as error:
                if not isinstance(error, StoreCorruptError):  # which may be about this row alone
                    trouble = error
                    return
                outcome.is_refused(one, str(error))
            except (DurableWorkflowError, ValueError) as error:
                outcome.is_refused(one, str(error))
            advance(outcome.tried)

    async with open_store(file) as store:
        client = Client(store)
        await asyncio.gather(*(work(client) for _ in range(AT_ONCE)))
    return trouble


async def delete_all(
    file: str,
    ids: Iterable[str],
    before: datetime,
    outcome: BulkOutcome,
    advance: Advance,
    is_stopped: Callable[[], bool] = lambda: False,
    *,
    batch_size: int = DELETED_AT_ONCE,
) -> None:
    """Delete those that are finished, and have not changed since `before`. Raises StoreError."""
    todo = iter(ids)
    async with open_store(file) as store:
        while not is_stopped() and (batch := list(islice(todo, batch_size))):
            deleted = set(await store.delete_finished(batch, before))
            for one in batch:
                if one in deleted:
                    outcome.is_done(one)
                else:
                    outcome.is_refused(
                        one, "it does not exist, is not finished, or has just changed"
                    )
            advance(outcome.tried)


async def _do(file: str, wanted: Command, client: Client, execution_id: str) -> str:
    try:
        return await wanted.act(client, execution_id)
    except ExecutionNotFoundError:
        raise ExecutionNotFoundError(
            f"no execution has the id {execution_id!r}; find it with"
            f" `{command('list', file)} --id PREFIX`",
            workflow_execution_id=execution_id,
        ) from None
