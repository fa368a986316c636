"""Arguments that many commands share: FILE or `--db`, and what executions are chosen by."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from durable_workflow_sqlite import database
from durable_workflow_sqlite.choosing import Chosen, statuses_of
from durable_workflow_sqlite.cli.output import WrongUsageError
from durable_workflow_sqlite.errors import StoreError


class OnDatabase(TyperCommand):
    """A command whose argument FILE is not there when `--db` or the variable names the database."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        if ctx.resilient_parsing or given.get("help"):
            return super().parse_args(ctx, args)
        before = None if ctx.parent is None else ctx.parent.params.get("db")
        db, first = (one if isinstance(one, str) else None for one in map(given.get, _WORDS))
        db = before if db is None else db
        try:
            file = database.path_of(first, db, takes_others=self._takes_others)
        except ValueError as error:
            raise WrongUsageError(str(error)) from None
        if not Path(file).is_file():
            raise StoreError(f"there is no file {file}; {database.origin(db)} names the database")
        ctx.meta[_NAMED] = database.named(db) is not None
        rest = super().parse_args(ctx, args)
        ctx.params["file"] = Path(file)
        return rest

    @property
    def _takes_others(self) -> bool:
        """Whether it has arguments beside FILE."""
        return sum(one.param_type_name == "argument" for one in self.params) > 1

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        return [one for one in params if one.name != "file"] if ctx.meta.get(_NAMED) else params


_WORDS = ("db", "file")
_NAMED = "durable_workflow_sqlite.cli.named"


Statuses = Annotated[
    list[str] | None,
    typer.Option("--status", "-s", metavar="STATUS", help="one, or several: failed,cancelled"),
]
WorkflowType = Annotated[
    str | None, typer.Option("--type", "-t", metavar="TYPE", help="of the workflow")
]
IdPrefix = Annotated[
    str | None, typer.Option("--id", metavar="PREFIX", help="the beginning of the ids")
]
FailedSince = Annotated[
    str | None,
    typer.Option(
        "--failed-since", metavar="AGE", help="FAILED, and failed within this time: 90s, 15m, 6h"
    ),
]
Error = Annotated[
    str | None,
    typer.Option("--error", metavar="TEXT", help="a text in the class or the message of the error"),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="KEY=VALUE",
        help="a key of an argument that is an object (customer.id=7), or the number of an"
        " argument (1=A-17 is the first); repeat it for more values, which must all match",
    ),
]

Step = Annotated[
    str | None,
    typer.Option(
        "--step", metavar="NAME", help="running or waiting at a step of that name; or FAILED at it"
    ),
]
Version = Annotated[
    int | None, typer.Option("--workflow-version", metavar="N", min=1, help="of the workflow")
]
EndedSince = Annotated[
    str | None,
    typer.Option("--ended-since", metavar="AGE", help="finished within this time: 90s, 15m, 6h"),
]

Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="NAME=VALUE", help="a tag; repeat it for more tags, which must all match"
    ),
]


def on_database(
    application: typer.Typer, name: str | None = None, *, text: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command. `_PARTS` says which of its parameters stand for several here."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        command = application.command(name or function.__name__, cls=OnDatabase, help=text)
        command(_expanded(function))
        return function

    return add


def _file(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help=f"the database; not given where --db or {database.VARIABLE} names it",
        ),
    ] = None,
    db: Annotated[str | None, typer.Option("--db", metavar="FILE", help=database.HELP)] = None,
) -> Path:
    del db  # `OnDatabase` has put it in the place of `file`, or refused to go on without one
    assert file is not None
    return file


def _chosen(
    status: Statuses = None,
    workflow_type: WorkflowType = None,
    version: Version = None,
    id_prefix: IdPrefix = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="since it began: 90s, 15m, 6h, 30d"),
    ] = None,
    newer_than: Annotated[
        str | None,
        typer.Option("--newer-than", metavar="AGE", help="since it began: 90s, 15m, 6h, 30d"),
    ] = None,
    failed_since: FailedSince = None,
    ended_since: EndedSince = None,
    error: Error = None,
    step: Step = None,
    inputs: Inputs = None,
    in_trouble: Annotated[
        bool,
        typer.Option(
            "--in-trouble", help="executions in trouble: their worker left them as they are"
        ),
    ] = False,
    is_blocked: Annotated[
        bool, typer.Option("--blocked", help="blocked executions, which no worker claims")
    ] = False,
    is_not_undone: Annotated[
        bool,
        typer.Option("--not-undone", help="executions with a compensation that failed for good"),
    ] = False,
    tags: Tags = None,
    ended_before: Annotated[
        str | None,
        typer.Option("--ended-before", metavar="AGE", help="finished longer ago: 12h, 30d"),
    ] = None,
    is_all: Annotated[
        bool, typer.Option("--all", help="all executions; for list, all pages")
    ] = False,
) -> Chosen:
    return Chosen(
        statuses=statuses_of(status),
        workflow_type=workflow_type,
        version=version,
        id_prefix=id_prefix,
        older_than=older_than,
        newer_than=newer_than,
        ended_before=ended_before,
        failed_since=failed_since,
        ended_since=ended_since,
        error=error,
        step=step,
        inputs=tuple(inputs or ()),
        in_trouble=in_trouble,
        is_blocked=is_blocked,
        is_not_undone=is_not_undone,
        tags=tuple(tags or ()),
        is_all=is_all,
    )


def _finished(
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="since it ended: 12h, 30d"),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            "-s",
            metavar="STATUS",
            help="one, or several: failed,cancelled; completed by default",
        ),
    ] = None,
    workflow_type: WorkflowType = None,
    version: Version = None,
    id_prefix: IdPrefix = None,
    failed_since: FailedSince = None,
    ended_since: EndedSince = None,
    error: Error = None,
    step: Step = None,
    inputs: Inputs = None,
    tags: Tags = None,
    is_all: Annotated[bool, typer.Option("--all", help="of any age")] = False,
) -> Chosen:
    return Chosen(
        statuses=statuses_of(status),
        workflow_type=workflow_type,
        version=version,
        id_prefix=id_prefix,
        ended_before=older_than,
        failed_since=failed_since,
        ended_since=ended_since,
        error=error,
        step=step,
        inputs=tuple(inputs or ()),
        tags=tuple(tags or ()),
        is_all=is_all,
    )


_PARTS: dict[str, Callable[..., object]] = {
    "file": _file,
    "chosen": _chosen,
    "finished": _finished,
}
"""What stands for several parameters, by its name."""


def _expanded(function: Callable[..., None]) -> Callable[..., None]:
    """A function with its parameters in the place of those that they make."""
    signature = inspect.signature(function, eval_str=True)
    parts = {
        name: inspect.signature(build, eval_str=True).parameters
        for name, build in _PARTS.items()
        if name in signature.parameters
    }

    def expanded(**values: Any) -> None:
        made = {
            name: _PARTS[name](**{one: values.pop(one) for one in parameters})
            for name, parameters in parts.items()
        }
        function(**values, **made)

    parameters = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, whole in signature.parameters.items()
        for one in (parts[name].values() if name in parts else [whole])
    ]
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {one.name: one.annotation for one in parameters}
    return expanded
