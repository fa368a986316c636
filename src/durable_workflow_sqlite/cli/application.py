"""All commands in one place: their names, arguments and help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from durable_workflow_sqlite.cli import acting, looking, upkeep

File = Annotated[Path, typer.Argument(metavar="FILE", help="the database")]
Id = Annotated[str, typer.Argument(metavar="ID", help="of the execution, as `list` shows it")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]

_ELSEWHERE = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": list[str](),
}


def build(run_here: Callable[[Sequence[str]], int]) -> typer.Typer:
    """The application; `run_here` runs the commands that need no extra."""
    application = typer.Typer(
        help="Look after durable workflows in a SQLite file, while workers run or without them.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog="Exit status: 0 done, 1 could not (one line on stderr says why), 2 wrong usage;"
        " doctor: 3 warnings, 4 errors.",
    )

    @application.command(help="Counts, and what to look at first: in trouble, blocked, old, due.")
    def status(file: File, as_json: AsJson = False) -> None:
        looking.status(file, as_json=as_json)

    @application.command("list", help="Executions, the newest first, a page at a time.")
    def list_(
        file: File,
        status: Annotated[
            list[str] | None,
            typer.Option("--status", "-s", metavar="STATUS", help="may be given more than once"),
        ] = None,
        workflow_type: Annotated[
            str | None, typer.Option("--type", "-t", metavar="TYPE", help="of the workflow")
        ] = None,
        id_prefix: Annotated[
            str | None, typer.Option("--id", metavar="PREFIX", help="what the ids begin with")
        ] = None,
        older_than: Annotated[
            str | None,
            typer.Option("--older-than", metavar="AGE", help="since it began: 90s, 15m, 6h, 30d"),
        ] = None,
        newer_than: Annotated[
            str | None,
            typer.Option("--newer-than", metavar="AGE", help="since it began: 90s, 15m, 6h, 30d"),
        ] = None,
        limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000)] = 50,
        after: Annotated[
            str | None,
            typer.Option("--after", metavar="NEXT", help="go on after a page, as it says itself"),
        ] = None,
        in_trouble: Annotated[
            bool, typer.Option("--in-trouble", help="those that their worker left as they are")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        looking.list_executions(
            file,
            statuses=[one.upper() for one in status or ()],
            workflow_type=workflow_type,
            id_prefix=id_prefix,
            older_than=older_than,
            newer_than=newer_than,
            limit=limit,
            after=after,
            in_trouble=in_trouble,
            as_json=as_json,
        )

    @application.command(help="Everything of one execution, its steps as a timeline.")
    def show(file: File, execution_id: Id, as_json: AsJson = False) -> None:
        looking.show(file, execution_id, as_json=as_json)

    @application.command(help="Look whenever something changes; at one execution, to its end.")
    def watch(
        file: File,
        execution_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
        interval: Annotated[
            float, typer.Option(min=0.05, metavar="SECONDS", help="at most so often")
        ] = 1.0,
    ) -> None:
        looking.watch(file, execution_id, interval=interval)

    @application.command(help="Send a signal to an execution; it is kept until it is waited for.")
    def signal(
        file: File,
        execution_id: Id,
        name: Annotated[str, typer.Argument(metavar="NAME", help="of the signal")],
        payload: Annotated[
            str | None, typer.Argument(metavar="[JSON]", help="what it brings along")
        ] = None,
    ) -> None:
        acting.signal(file, execution_id, name, payload)

    @application.command(help="Ask an execution to stop, and to undo what it did.")
    def cancel(file: File, execution_id: Id) -> None:
        acting.cancel(file, execution_id)

    @application.command(help="Run a failed execution again from its failed step, or unblock one.")
    def retry(file: File, execution_id: Id) -> None:
        acting.retry(file, execution_id)

    @application.command(help="Delete finished executions. Shows first what it would delete.")
    def prune(
        file: File,
        older_than: Annotated[
            str, typer.Option("--older-than", metavar="AGE", help="since it ended: 12h, 30d")
        ],
        status: Annotated[
            list[str] | None,
            typer.Option(
                "--status", "-s", metavar="STATUS", help="more than once; COMPLETED by default"
            ),
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="delete, without asking")] = False,
        batch_size: Annotated[int, typer.Option(min=1, help="deleted in one transaction")] = 500,
    ) -> None:
        upkeep.prune(
            file,
            older_than=older_than,
            statuses=[one.upper() for one in status or ["COMPLETED"]],
            yes=yes,
            batch_size=batch_size,
        )

    @application.command(help="Copy the database as it is at one moment, while workers write.")
    def backup(
        file: File,
        path: Annotated[Path, typer.Argument(metavar="PATH", help="a new file")],
    ) -> None:
        upkeep.backup(file, path)

    @application.command(help="Give back the room that deleted executions left in the file.")
    def vacuum(
        file: File,
        busy_timeout: Annotated[
            float, typer.Option(min=0, metavar="SECONDS", help="how long to wait for the lock")
        ] = 5.0,
    ) -> None:
        upkeep.vacuum(file, busy_timeout=busy_timeout)

    @application.command(help="Is anything wrong? Exit status 0: no; 3: warnings; 4: errors.")
    def doctor(
        file: File,
        quick: Annotated[
            bool, typer.Option("--quick", help="do not compare the indexes with the rows")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        upkeep.doctor(file, quick=quick, as_json=as_json)

    @application.command(help="Serve the dashboard of a database; needs the extra `dashboard`.")
    def dashboard(
        file: File,
        host: Annotated[str, typer.Option(help="the address to listen at")] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=0, max=65_535)] = 8642,
        token: Annotated[
            str | None,
            typer.Option(envvar="DURABLE_WORKFLOW_TOKEN", help="what browsers must know, once"),
        ] = None,
        read_only: Annotated[bool, typer.Option("--read-only", help="no actions")] = False,
    ) -> None:
        upkeep.dashboard(file, host=host, port=port, token=token, read_only=read_only)

    for name, text in (
        ("migrate", "Create a database, or bring one to the current schema."),
        ("worker", "Run what is in a database, and what is enqueued there, until SIGTERM."),
    ):
        _pass_on(application, name, text, run_here)
    return application


def _pass_on(
    application: typer.Typer, name: str, text: str, run_here: Callable[[Sequence[str]], int]
) -> None:
    """List a command here that is run elsewhere."""

    @application.command(name, help=text, context_settings=_ELSEWHERE)
    def command(context: typer.Context) -> None:
        raise typer.Exit(run_here([name, *context.args]))
