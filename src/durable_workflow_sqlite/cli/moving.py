"""The command that moves all that a database holds to another one."""

from __future__ import annotations

from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from durable_workflow_sqlite import stores
from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.cli.progress import progress
from durable_workflow_sqlite.engine.audit import this_user
from durable_workflow_sqlite.moving import move as moving
from durable_workflow_sqlite.moving.database import MovableDatabase
from durable_workflow_sqlite.stores import name_of, open_movable, open_reader

app = typer.Typer(rich_markup_mode=None)


@app.command()
def move(
    source: Annotated[str, typer.Argument(metavar="FROM", help="a file, or the URL of a database")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="one that holds nothing, or is not there yet")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be moved, and change nothing")
    ] = False,
    give_up: Annotated[
        bool,
        typer.Option("--give-up", help="let workers use FROM again; TO keeps what was copied"),
    ] = False,
) -> None:
    """Move all executions to another database, unfinished ones too, as from SQLite to PostgreSQL.
    Workers of FROM stop; those of TO go on. The same command goes on with a move that was
    interrupted."""
    if dry_run and give_up:
        raise typer.BadParameter("--dry-run and --give-up exclude each other")
    open_reader(source).close()  # one that is to be migrated first is not changed unasked
    with ExitStack() as opened:
        theirs = opened.enter_context(closing(open_movable(source, create=False)))
        if give_up:
            into = None
            if stores.is_there(target):
                into = opened.enter_context(closing(open_movable(target, create=False)))
            moving.give_up(theirs, into)
            output.say(f"gave the move up: workers can use {theirs.name} again")
            return
        is_new = theirs.moves().out is None
        if (is_new or dry_run) and not _is_wanted(theirs, target, yes=yes, dry_run=dry_run):
            return
        ours = opened.enter_context(closing(open_movable(target, create=True)))
        moving.check_two(theirs, ours)
        if moving.is_finished(theirs, ours):
            output.say(f"nothing is left to do: {theirs.name} was moved to {ours.name}")
            return
        _move(theirs, ours)


def _is_wanted(source: MovableDatabase, target: str, *, yes: bool, dry_run: bool) -> bool:
    counts = source.count_rows()
    tables.write_table(
        f"from {source.name} to {name_of(target)}",
        ["table", "rows"],
        [[table, count] for table, count in counts.items() if count],
        empty="no rows",
    )
    if others := source.tables_of_others():
        output.fail(f"these tables are not of this library, and stay: {', '.join(others)}")
    if (alive := source.count_living_workers()) > 0:
        output.fail(
            f"{alive} live workers use {source.name}: they will stop, and the steps that run then"
            " are in doubt, so they run again"
        )
    if dry_run:
        output.fail(f"would move {sum(counts.values()):,} rows; nothing was done")
        return False
    if yes:
        return True
    if not output.can_ask():
        output.fail("nothing was moved; add --yes to move them")
        raise typer.Exit(1)
    typer.confirm(f"move them? Nothing can be written to {source.name} from then on", abort=True)
    return True


def _move(source: MovableDatabase, target: MovableDatabase) -> None:
    with progress("copying", None) as advance:
        moved = moving.move(
            source,
            target,
            moved_by=this_user(),
            now=lambda: datetime.now(UTC),
            on_progress=advance.doing,
        )
    tables.write_table(
        f"moved to {target.name}",
        ["table", "rows", "sha256"],
        [[one.table, one.rows, one.digest] for one in moved if one.rows],
        empty="no rows",
    )
    output.say(
        f"moved {sum(one.rows for one in moved):,} rows to {target.name}, and compared each;"
        f" {source.name} can only be read now"
    )
