"""All commands in one place: their names, arguments and help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from durable_workflow_sqlite import database
from durable_workflow_sqlite.choosing import Chosen
from durable_workflow_sqlite.cli import actions, maintenance, reading, starting
from durable_workflow_sqlite.cli.arguments import on_database
from durable_workflow_sqlite.cli.bulk import How
from durable_workflow_sqlite.cli.output import WrongUsageError

Id = Annotated[str, typer.Argument(metavar="ID", help="of the execution, as `list` shows it")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="of executions; - reads them from a pipe"),
]
AsJson = Annotated[bool, typer.Option("--json", help="the same as -o json")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do it, without asking")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show what would be done, and do nothing")]


Branch = Annotated[
    str | None,
    typer.Option(
        "--branch", metavar="KEY", help="of the step, if other branches have the name, too"
    ),
]
Index = Annotated[
    int | None,
    typer.Option("--index", min=0, help="of the step, if its branch has the name several times"),
]


class Form(StrEnum):
    """How `list` writes executions."""

    TABLE = "table"
    WIDE = "wide"
    NAME = "name"
    ID = "id"
    JSON = "json"


class PlainForm(StrEnum):
    """How the other commands that look write what they find."""

    TABLE = "table"
    JSON = "json"


class WideForm(StrEnum):
    """How `workers` writes them."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


InForm = Annotated[PlainForm | None, typer.Option("--output", "-o", help="how it is written")]

_ELSEWHERE = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": list[str](),
}


@cache
def build(run_here: Callable[[Sequence[str]], int]) -> Callable[..., object]:
    """What runs a command; `run_here` runs the commands that need no extra."""
    application = typer.Typer(
        help="Look after durable workflows in a SQLite file, while workers run or without them."
        f" The first argument of each command is the file, unless --db or {database.VARIABLE}"
        " names it.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog="Exit status: 0 done, 1 could not (one line on stderr says why), 2 wrong usage;"
        " doctor: 3 warnings, 4 errors.",
    )

    @application.callback()
    def for_all(  # pyright: ignore[reportUnusedFunction]
        db: Annotated[str | None, typer.Option("--db", metavar="FILE", help=database.HELP)] = None,
        version: Annotated[
            bool,
            typer.Option(
                "--version", help="print the versions of the library, SQLite and the schema"
            ),
        ] = False,
    ) -> None:
        if version:
            raise typer.Exit(run_here(["--version"]))
        del db  # `OnDatabase` reads it

    @on_database(
        application, text="Counts, and what to look at first: in trouble, blocked, old, due."
    )
    def status(file: Path, form: InForm = None, as_json: AsJson = False) -> None:
        reading.status(file, as_json=_form(form, as_json=as_json) == "json")

    @on_database(
        application,
        text="Who works, since when, on what, and in how many slots; what waits for a worker.",
    )
    def workers(
        file: Path,
        form: Annotated[
            WideForm | None, typer.Option("--output", "-o", help="wide: more of each worker")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        reading.workers(file, form=_form(form, as_json=as_json))

    @on_database(application, "list", text="Executions, the newest first, a page at a time.")
    def list_(
        file: Path,
        chosen: Chosen,
        limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000)] = 50,
        after: Annotated[
            str | None,
            typer.Option("--after", metavar="NEXT", help="go on after a page, as it says itself"),
        ] = None,
        form: Annotated[
            Form | None,
            typer.Option("--output", "-o", help="id or name: an id a line, for a pipe"),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        reading.list_executions(
            file, chosen, limit=limit, after=after, form=_form(form, as_json=as_json)
        )

    @on_database(application, text="Everything of executions, their steps as timelines.")
    def show(
        file: Path,
        execution_ids: Annotated[
            list[str], typer.Argument(metavar="ID", help="of executions, as `list` shows them")
        ],
        form: Annotated[
            PlainForm | None, typer.Option("--output", "-o", help="json: a line each")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        reading.show(file, execution_ids, as_json=_form(form, as_json=as_json) == "json")

    @on_database(application, text="Look whenever something changes; at one execution, to its end.")
    def watch(
        file: Path,
        execution_id: Annotated[str | None, typer.Argument(metavar="ID")] = None,
        interval: Annotated[
            float, typer.Option(min=0.05, metavar="SECONDS", help="at most so often")
        ] = 1.0,
    ) -> None:
        reading.watch(file, execution_id, interval=interval)

    @on_database(
        application,
        text="Send a signal to an execution, or to all that are chosen (then without ID); it is"
        " kept until it is waited for.",
    )
    def signal(
        file: Path,
        words: Annotated[
            list[str],
            typer.Argument(
                metavar="[ID] NAME [JSON]",
                help="of the execution (- reads ids from a pipe), of the signal, and what it"
                " brings along",
            ),
        ],
        chosen: Chosen,
        yes: Yes = False,
        dry_run: DryRun = False,
    ) -> None:
        actions.signal(file, words, chosen, How(yes=yes, dry_run=dry_run))

    @on_database(application, text="Ask executions to stop, and to undo what they did.")
    def cancel(
        file: Path, chosen: Chosen, ids: Ids = None, yes: Yes = False, dry_run: DryRun = False
    ) -> None:
        actions.cancel(file, ids or [], chosen, How(yes=yes, dry_run=dry_run))

    @on_database(
        application,
        text="Run failed executions again from their failed step, unblock some, or let those that"
        " wait for their next attempt try at once. Chosen by"
        " options: those FAILED, unless --status, --blocked, --in-trouble or --not-undone says"
        " otherwise.",
    )
    def retry(
        file: Path,
        chosen: Chosen,
        ids: Ids = None,
        from_step: Annotated[
            str | None,
            typer.Option(
                "--from",
                metavar="STEP",
                help="run this step again, and all that came after it: that is forgotten",
            ),
        ] = None,
        branch: Branch = None,
        index: Index = None,
        yes: Yes = False,
        dry_run: DryRun = False,
    ) -> None:
        if from_step is None and (branch is not None or index is not None):
            raise WrongUsageError("--branch and --index say more of the step of --from")
        step = None if from_step is None else actions.step_of(from_step, branch, index)
        actions.retry(file, ids or [], step, chosen, How(yes=yes, dry_run=dry_run))

    @on_database(
        application,
        text="Enqueue an execution of a workflow by its name, for a worker that has its code. The"
        " file must know the workflow. Prints the id.",
    )
    def start(
        file: Path,
        workflow_type: Annotated[
            str, typer.Argument(metavar="TYPE", help="the name of the workflow")
        ],
        arguments: Annotated[
            str | None,
            typer.Argument(
                metavar="[JSON]",
                help="an array of the arguments; anything else is the one argument, and nothing is"
                " no argument. For one argument that is an array: [[1, 2]]",
            ),
        ] = None,
        version: Annotated[
            int | None, typer.Option("--version", min=1, help="the newest one by default")
        ] = None,
        execution_id: Annotated[
            str | None,
            typer.Option(
                "--id", metavar="ID", help="an id that you choose: you can then repeat the command"
            ),
        ] = None,
        tags: Annotated[
            list[str] | None,
            typer.Option("--tag", metavar="NAME=VALUE", help="to find it by; more than once"),
        ] = None,
        priority: Annotated[int, typer.Option(help="higher ones are claimed first")] = 0,
        delay: Annotated[
            float | None, typer.Option(min=0, metavar="SECONDS", help="not claimed before that")
        ] = None,
        ttl: Annotated[
            float | None,
            typer.Option(metavar="SECONDS", help="how long it may take; then it is undone"),
        ] = None,
    ) -> None:
        starting.start(
            file,
            workflow_type,
            arguments,
            version=version,
            execution_id=execution_id,
            tags=tags or (),
            priority=priority,
            delay=delay,
            ttl=ttl,
        )

    @on_database(
        application,
        text="Start executions once more, each as a new one with the same workflow, version, input"
        " and tags. The old ones stay as they are. Chosen by options: those FAILED, unless --status"
        " says otherwise.",
    )
    def rerun(
        file: Path,
        chosen: Chosen,
        ids: Ids = None,
        new_id: Annotated[
            str | None, typer.Option("--new-id", metavar="ID", help="of the new execution")
        ] = None,
        yes: Yes = False,
        dry_run: DryRun = False,
    ) -> None:
        actions.rerun(file, ids or [], new_id, chosen, How(yes=yes, dry_run=dry_run))

    @on_database(
        application,
        text="Let an execution go on as if a step had returned a value. The step has failed the"
        " execution, is in doubt or in a back-off, or its result cannot be read. A sleep takes no"
        " JSON, and ends now. No worker may have the execution.",
    )
    def resolve(
        file: Path,
        execution_id: Id,
        step: Annotated[str, typer.Argument(metavar="STEP", help="its name")],
        value: Annotated[
            str | None, typer.Argument(metavar="[JSON]", help="what it returned")
        ] = None,
        branch: Branch = None,
        index: Index = None,
    ) -> None:
        actions.resolve(file, execution_id, actions.step_of(step, branch, index), value)

    @on_database(
        application, text="Let workers claim executions again that are blocked; --all: all those."
    )
    def unblock(
        file: Path,
        chosen: Chosen,
        ids: Ids = None,
        without_rows: Annotated[
            bool,
            typer.Option(
                "--without-rows",
                help="also those whose deleted rows are not restored: their steps may run again",
            ),
        ] = False,
        yes: Yes = False,
        dry_run: DryRun = False,
    ) -> None:
        how = How(yes=yes, dry_run=dry_run)
        actions.unblock(file, ids or [], chosen, how, without_rows=without_rows)

    @on_database(
        application,
        text="Say that a person has dealt with what finished executions left: compensations that"
        " failed for good, and steps that were cut off. `retry` does not run these"
        " compensations again.",
    )
    def acknowledge(
        file: Path, chosen: Chosen, ids: Ids = None, yes: Yes = False, dry_run: DryRun = False
    ) -> None:
        actions.acknowledge(file, ids or [], chosen, How(yes=yes, dry_run=dry_run))

    @on_database(
        application,
        text="Delete finished executions: those that are named, or those of an age. Shows first"
        " what it would delete.",
    )
    def prune(
        file: Path,
        finished: Chosen,
        ids: Ids = None,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="delete, without asking")] = False,
        dry_run: DryRun = False,
        batch_size: Annotated[int, typer.Option(min=1, help="deleted in one transaction")] = 500,
    ) -> None:
        maintenance.prune(
            file, ids or [], finished, How(yes=yes, dry_run=dry_run), batch_size=batch_size
        )

    @on_database(application, text="Copy the database as it is at one moment, while workers write.")
    def backup(
        file: Path,
        path: Annotated[Path, typer.Argument(metavar="PATH", help="a new file")],
    ) -> None:
        maintenance.backup(file, path)

    @on_database(application, text="Give back the room that deleted executions left in the file.")
    def vacuum(
        file: Path,
        busy_timeout: Annotated[
            float, typer.Option(min=0, metavar="SECONDS", help="how long to wait for the lock")
        ] = 5.0,
    ) -> None:
        maintenance.vacuum(file, busy_timeout=busy_timeout)

    @on_database(application, text="Is anything wrong? Exit status 0: no; 3: warnings; 4: errors.")
    def doctor(
        file: Path,
        quick: Annotated[
            bool, typer.Option("--quick", help="do not compare the indexes with the rows")
        ] = False,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="also what needs nobody")
        ] = False,
        form: InForm = None,
        as_json: AsJson = False,
    ) -> None:
        is_json = _form(form, as_json=as_json) == "json"
        maintenance.doctor(file, quick=quick, as_json=is_json, is_verbose=verbose)

    @on_database(
        application, text="Serve the dashboard of a database; needs the extra `dashboard`."
    )
    def dashboard(
        file: Path,
        host: Annotated[str, typer.Option(help="the address to listen at")] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=0, max=65_535)] = 8642,
        token: Annotated[
            str | None,
            typer.Option(envvar="DURABLE_WORKFLOW_TOKEN", help="what browsers must know, once"),
        ] = None,
        read_only: Annotated[bool, typer.Option("--read-only", help="no actions")] = False,
    ) -> None:
        maintenance.dashboard(file, host=host, port=port, token=token, read_only=read_only)

    for name, text in (
        ("migrate", "Bring a database to the current schema, or create one with --create."),
        ("worker", "Run what is in a database, and what is enqueued there, until SIGTERM."),
    ):
        _pass_on(application, name, text, run_here)
    return typer.main.get_command(application)


def _form(form: StrEnum | None, *, as_json: bool) -> str:
    if as_json and form not in (None, "json"):
        raise WrongUsageError(f"--json and -o {form} exclude each other")
    return "json" if as_json else "table" if form is None else form.value


def _pass_on(
    application: typer.Typer, name: str, text: str, run_here: Callable[[Sequence[str]], int]
) -> None:
    """List a command here that is run elsewhere."""

    @application.command(name, help=text, context_settings=_ELSEWHERE)
    def command(context: typer.Context) -> None:
        db = None if context.parent is None else context.parent.params.get("db")
        before = [] if db is None else ["--db", db]
        raise typer.Exit(run_here([name, *before, *context.args]))
