"""One thing done to many executions, from a shell: shown first, asked, done, summed up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import typer

from durable_workflow_sqlite.bulk import (
    SHOWN,
    BulkOutcome,
    Command,
    Ids,
    do_all,
    do_one,
    selection_of,
)
from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.arguments import How
from durable_workflow_sqlite.cli.progress import progress
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.stores import open_reader

FROM_PIPE: Final = "-"


class Said(BulkOutcome):
    """Says it on the command line, too.

    says_each: whether there is a line for each that was done, too.
    """

    def __init__(self, total: int, *, says_each: bool) -> None:
        super().__init__(total)
        self._says_each = says_each

    def is_done(self, text: str) -> None:
        super().is_done(text)
        if self._says_each:
            output.say(text)

    def is_refused(self, execution_id: str, why: str) -> None:
        super().is_refused(execution_id, why)
        if self.refused <= SHOWN or not output.is_terminal():
            output.fail(f"{execution_id}: {why}")


def perform(file: str, wanted: Command, ids: Sequence[str], chosen: Chosen, how: How) -> None:
    """Do it to the executions that are named, or chosen. Ends with exit status 1 if one refuses.

    Raises StoreError, ValueError; if one alone is named, what is raised for it.
    """
    with Ids() as found:
        with open_reader(file) as reader:
            collect(
                found,
                reader,
                ids,
                chosen,
                wanted.statuses,
                only_blocked=wanted.is_for_blocked,
                only_paused=wanted.is_for_paused,
            )
            if not is_wanted(found, reader, wanted.name, how, is_named=bool(ids)):
                return
        if len(ids) == 1 and ids[0] != FROM_PIPE:
            output.say(asyncio.run(do_one(file, wanted, ids[0])))
            return
        outcome = Said(len(found), says_each=len(ids) > 1)
        try:
            with progress(wanted.name, len(found)) as advance:
                trouble = asyncio.run(do_all(file, wanted, found, outcome, advance))
        except KeyboardInterrupt:
            trouble = None
    output.say(outcome.summary(wanted.done))
    if trouble is not None:
        raise trouble
    if not outcome.is_whole:
        raise typer.Exit(1)


def collect(
    found: Ids,
    reader: Reader,
    ids: Sequence[str],
    chosen: Chosen,
    statuses: Sequence[str],
    *,
    only_blocked: bool = False,
    only_paused: bool = False,
) -> None:
    """Find the ids that are named, or chosen. `statuses`: of the chosen, where none is given.

    Raises ValueError; WrongUsageError where neither or both are given.
    """
    if ids and chosen.is_given:
        raise output.WrongUsageError("give ids, or options that choose executions, not both")
    if not ids and not chosen.is_given:
        raise output.WrongUsageError(
            "choose executions: by ids, by - for ids from a pipe, by options such as --status"
            " and --type, or by --all"
        )
    if FROM_PIPE in ids:
        if len(ids) > 1:
            raise output.WrongUsageError("- stands for the ids from a pipe; give no other ids")
        found.add(_from_pipe())
    elif ids:
        found.add(dict.fromkeys(ids))
    else:
        selection = selection_of(
            reader,
            chosen,
            datetime.now(UTC),
            statuses,
            only_blocked=only_blocked,
            only_paused=only_paused,
        )
        for some in reader.execution_ids(selection):
            found.add(some)


def is_wanted(found: Ids, reader: Reader, name: str, how: How, *, is_named: bool) -> bool:
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
        _show(found, reader, name)
    if how.dry_run:
        output.say("nothing was done")
        return False
    confirm(f"{name} {_number(found)}", how)
    return True


def confirm(what: str, how: How) -> None:
    """Ask. Without a terminal nobody can be asked: exit status 1, unless `how.yes`."""
    if how.yes:
        return
    if not output.can_ask():
        output.fail(f"nothing was done; add --yes to {what}")
        raise typer.Exit(1)
    typer.confirm(f"{what}?", abort=True)


def _show(found: Ids, reader: Reader, name: str) -> None:
    now = datetime.now(UTC)
    some = f"; the first {len(found.sample)}:" if len(found) > len(found.sample) else ":"
    tables.write_table(
        f"would {name} {_number(found)}{some}",
        ["id", "workflow", "status", "began", "error / trouble"],
        [
            [
                tables.execution_id(row.id),
                row.workflow_type,
                tables.status(row.status),
                output.ago(row.created_at, now),
                row.blocked_reason or row.trouble or row.error_message,
            ]
            for row in reader.summaries(found.sample)
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
