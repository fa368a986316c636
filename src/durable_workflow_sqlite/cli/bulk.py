"""The same thing done to one execution, or to many: shown first, done, summed up."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import typer

from durable_workflow_sqlite.cli import output
from durable_workflow_sqlite.cli.choosing import Chosen
from durable_workflow_sqlite.cli.progress import Advance, progress
from durable_workflow_sqlite.engine.engine import DurableEngine
from durable_workflow_sqlite.errors import (
    DurableWorkflowError,
    ExecutionNotFoundError,
    StoreCorruptError,
    StoreError,
)
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.store.sqlite import SqliteCheckpointStore

SHOWN: Final = 10
AT_ONCE: Final = 50
"""So many acts at a time: their writes share commits."""

FROM_PIPE: Final = "-"


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to an execution.

    act: does it, and returns what to say of it. Raises DurableWorkflowError or ValueError if it
        cannot be done.
    name, done: as in "would retry 3 executions", "retried 3".
    statuses: of those that it is for, where no `--status` is given. is_for_blocked: only for those.
    """

    name: str
    done: str
    act: Callable[[DurableEngine, str], Awaitable[str]]
    statuses: Sequence[str] = ()
    is_for_blocked: bool = False


class How(msgspec.Struct, frozen=True, kw_only=True):
    """yes: without asking. dry_run: do nothing, but show what would be done."""

    yes: bool
    dry_run: bool


class Ids:
    """Any number of ids, in a file of its own that nobody sees: each once, in their order.

    sample: the first of them.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - `__exit__` closes it
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
        self._file.close()

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


class Outcome:
    """What became of each, said as it happens, so that it is known if it is interrupted.

    says_each: whether there is a line for each that was done, too.
    """

    def __init__(self, total: int, *, says_each: bool) -> None:
        self._total = total
        self._says_each = says_each
        self.done = 0
        self.refused = 0

    @property
    def is_whole(self) -> bool:
        return self.done == self._total

    def is_done(self, text: str) -> None:
        self.done += 1
        if self._says_each:
            output.say(text)

    def is_refused(self, execution_id: str, why: str) -> None:
        self.refused += 1
        if self.refused <= SHOWN or not output.is_terminal():
            output.fail(f"{execution_id}: {why}")

    def summary(self, done: str) -> str:
        text = f"{done} {self.done:,}"
        if self.refused:
            text += f", refused {self.refused:,}"
        if left := self._total - self.done - self.refused:
            text += f", not tried {left:,}"
        return text


def perform(file: Path, deed: Deed, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Do it to the executions that are named, or chosen. Ends with exit status 1 if one refuses.

    Raises StoreError, ValueError; if one alone is named, what is raised for it.
    """
    with Ids() as found:
        with Inspector.open(file) as inspector:
            collect(found, inspector, ids, chosen, deed.statuses, only_blocked=deed.is_for_blocked)
            if not is_wanted(found, inspector, deed.name, how, is_named=bool(ids)):
                return
        if len(ids) == 1 and ids[0] != FROM_PIPE:
            output.say(asyncio.run(_do_one(file, deed, ids[0])))
            return
        outcome = Outcome(len(found), says_each=len(ids) > 1)
        try:
            with progress(deed.name, len(found)) as advance:
                trouble = asyncio.run(_do_all(file, deed, found, outcome, advance))
        except KeyboardInterrupt:
            trouble = None
    output.say(outcome.summary(deed.done))
    if trouble is not None:
        raise trouble
    if not outcome.is_whole:
        raise typer.Exit(1)


def collect(
    found: Ids,
    inspector: Inspector,
    ids: Sequence[str],
    chosen: Chosen,
    statuses: Sequence[str],
    *,
    only_blocked: bool = False,
) -> None:
    """Find the ids that are named, or chosen. `statuses`: of the chosen, where none is given.

    Raises ValueError; WrongUsageError where neither or both are given.
    """
    if ids and chosen.is_given:
        raise output.WrongUsageError("give ids, or options that choose executions, not both")
    if not ids and not chosen.is_given:
        raise output.WrongUsageError(
            "say which executions: by their ids, by - for ids from a pipe, by options such as"
            " --status and --type, or by --all"
        )
    if FROM_PIPE in ids:
        if len(ids) > 1:
            raise output.WrongUsageError(
                "- stands for the ids from a pipe; give no others beside it"
            )
        found.add(_from_pipe())
    elif ids:
        found.add(dict.fromkeys(ids))
    else:
        if only_blocked:
            chosen = msgspec.structs.replace(chosen, is_blocked=True)
        by_state = chosen.is_blocked or chosen.in_trouble or chosen.is_not_undone
        selection = chosen.selection(inspector, datetime.now(UTC), () if by_state else statuses)
        for some in inspector.execution_ids(selection):
            found.add(some)


def is_wanted(found: Ids, inspector: Inspector, name: str, how: How, *, is_named: bool) -> bool:
    """Show what would be done, and ask. What is named by its ids needs no question.

    Without a terminal nobody can be asked, and it ends with exit status 1 unless `how.yes`.
    """
    if not len(found):
        output.say(f"nothing to {name}")
        return False
    if how.dry_run and not output.is_terminal():
        output.write_ids(found)
        output.fail(f"would {name} {_number(found)}; nothing was done")
        return False
    if is_named and not how.dry_run:
        return True
    if not how.yes or how.dry_run:
        _show(found, inspector, name)
    if how.dry_run:
        output.say("nothing was done")
        return False
    if how.yes:
        return True
    if not output.can_ask():
        output.fail(f"nothing was done; add --yes to {name} {_number(found)}")
        raise typer.Exit(1)
    typer.confirm(f"{name} {_number(found)}?", abort=True)
    return True


def _show(found: Ids, inspector: Inspector, name: str) -> None:
    now = datetime.now(UTC)
    some = f"; the first {len(found.sample)}:" if len(found) > len(found.sample) else ":"
    output.write_table(
        f"would {name} {_number(found)}{some}",
        ["id", "workflow", "status", "began", "error / trouble"],
        [
            [
                output.execution_id(row.id),
                row.workflow_type,
                output.status(row.status),
                output.ago(row.created_at, now),
                row.blocked_reason or row.trouble or row.error_message,
            ]
            for row in inspector.summaries(found.sample)
        ],
    )


def _number(found: Ids) -> str:
    return f"{len(found):,} execution{'' if len(found) == 1 else 's'}"


def _from_pipe() -> Iterator[str]:
    """The ids on stdin, each once: of each line what comes before a tab, as `list` writes it."""
    seen: set[str] = set()
    for line in sys.stdin:
        one = line.partition("\t")[0].strip()
        if one and one not in seen:
            seen.add(one)
            yield one


async def _do_one(file: Path, deed: Deed, execution_id: str) -> str:
    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        return await _do(file, deed, engine, execution_id)


async def _do_all(
    file: Path, deed: Deed, ids: Ids, outcome: Outcome, advance: Advance
) -> StoreError | None:
    """Do it to all, some at a time; the trouble with the file that ended it before, or None."""
    trouble: StoreError | None = None
    todo = iter(ids)

    async def work(engine: DurableEngine) -> None:
        nonlocal trouble
        for one in todo:
            if trouble is not None:
                return
            try:
                outcome.is_done(await _do(file, deed, engine, one))
            except StoreError as error:
                if not isinstance(error, StoreCorruptError):  # which may be about this row alone
                    trouble = error
                    return
                outcome.is_refused(one, str(error))
            except (DurableWorkflowError, ValueError) as error:
                outcome.is_refused(one, str(error))
            advance(outcome.done + outcome.refused)

    async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
        await asyncio.gather(*(work(engine) for _ in range(AT_ONCE)))
    return trouble


async def _do(file: Path, deed: Deed, engine: DurableEngine, execution_id: str) -> str:
    try:
        return await deed.act(engine, execution_id)
    except ExecutionNotFoundError:
        raise ExecutionNotFoundError(
            f"no execution has the id {execution_id!r}; find it with"
            f" `{output.command('list', file)} --id PREFIX`",
            workflow_execution_id=execution_id,
        ) from None
