"""Arguments that many commands share: FILE or `--db`, what executions are chosen by, and so on."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperCommand, TyperOption

from durable_workflow_sqlite import database, stores
from durable_workflow_sqlite.choosing import Chosen, statuses_of
from durable_workflow_sqlite.cli.output import WrongUsageError
from durable_workflow_sqlite.encryption import KEY_FILE_VARIABLE
from durable_workflow_sqlite.errors import StoreError


class OnDatabase(TyperCommand):
    """A command whose argument FILE is not there when `--db` or the variable names the database."""

    is_for_new = False
    """Whether there need not be a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        if ctx.resilient_parsing or given.get("help"):
            return super().parse_args(ctx, args)
        for one in order:
            is_single = isinstance(one, TyperOption) and not (one.multiple or one.is_flag)
            if is_single and order.count(one) > 1:  # the last value would be taken, and no other
                return ctx.fail(f"{one.opts[0]} is given twice; give it once")
        root = ctx.find_root()
        before = root.params.get("db")
        keys = given.get("key_file")
        _give_keys(ctx, keys if isinstance(keys, str) else root.params.get("key_file"))
        db, first = (one if isinstance(one, str) else None for one in map(given.get, _WORDS))
        db = before if db is None else db
        try:
            file = database.path_of(first, db, takes_others=self._takes_others)
        except ValueError as error:
            return ctx.fail(str(error))
        if not self.is_for_new and not stores.is_there(file):
            raise StoreError(f"there is no file {file}; {database.origin(db)} names the database")
        ctx.meta[_NAMED] = database.named(db) is not None
        rest = super().parse_args(ctx, args)
        ctx.params["file"] = file
        return rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except WrongUsageError as error:
            return ctx.fail(str(error))

    @property
    def _takes_others(self) -> bool:
        """Whether it has arguments beside FILE."""
        return sum(one.param_type_name == "argument" for one in self.params) > 1

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        return [one for one in params if one.name != "file"] if ctx.meta.get(_NAMED) else params


def _give_keys(ctx: Any, keys: str | None) -> None:
    """Name the file of keys to all that opens the database, until the command is over."""
    if keys is None:
        return
    before = os.environ.get(KEY_FILE_VARIABLE)
    os.environ[KEY_FILE_VARIABLE] = keys

    @ctx.find_root().call_on_close  # type: ignore[untyped-decorator]
    def restore() -> None:
        if before is None:
            os.environ.pop(KEY_FILE_VARIABLE, None)
        else:
            os.environ[KEY_FILE_VARIABLE] = before


class OnNewDatabase(OnDatabase):
    is_for_new = True


_WORDS = ("db", "file")
_NAMED = "durable_workflow_sqlite.cli.named"


class How(msgspec.Struct, frozen=True, kw_only=True):
    """yes: without asking. dry_run: do nothing, but show what would be done."""

    yes: bool
    dry_run: bool


class PlainForm(StrEnum):
    """How most commands that look write what they find."""

    TABLE = "table"
    JSON = "json"


AsJson = Annotated[bool, typer.Option("--json", help="the same as -o json")]


def form_of(form: StrEnum | None, *, as_json: bool) -> str:
    """What `--output` and `--json` say together. Raises WrongUsageError."""
    if as_json and form not in (None, "json"):
        raise WrongUsageError(f"--json and -o {form} exclude each other")
    return "json" if as_json else "table" if form is None else form.value


def in_seconds(seconds: float) -> float:
    """A length of time that somebody gave. Raises BadParameter."""
    if not 0 <= seconds <= 86_400:
        raise typer.BadParameter(f"{seconds:g} is not between 0 and 86400 seconds")
    return seconds


BusyTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        callback=in_seconds,
        help="how long to wait for a lock that someone else holds",
    ),
]
Branch = Annotated[
    str | None,
    typer.Option(
        "--branch",
        metavar="KEY",
        help="the branch of the step, if other branches have a step of that name",
    ),
]
Index = Annotated[
    int | None,
    typer.Option(
        "--index", min=0, help="the index of the step, if its branch has several of that name"
    ),
]
Edit = Annotated[
    list[str] | None,
    typer.Option(
        "--edit",
        metavar="STEP=JSON",
        help="another result of a step that does not run again; repeat it for more steps. A step"
        " of a branch is BRANCH/STEP; one of several is STEP#INDEX",
    ),
]
Statuses = Annotated[
    list[str] | None,
    typer.Option("--status", "-s", metavar="STATUS", help="one, or several: failed,cancelled"),
]
WorkflowTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--type", "-t", metavar="TYPE", help="of the workflow: one, or several: order,refund"
    ),
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
Parent = Annotated[
    str | None, typer.Option("--parent", metavar="ID", help="the children of this execution")
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root", metavar="ID", help="this execution, its children, their children, and so on"
    ),
]

InQueues = Annotated[
    list[str] | None,
    typer.Option(
        "--in-queue", metavar="NAME", help="executions in a named queue; or in several: mail,llm"
    ),
]


def on_database(
    app: typer.Typer, name: str | None = None, *, cls: type[OnDatabase] = OnDatabase
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command; its docstring is the help.

    `_PARTS` says which of its parameters stand for several here.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name or function.__name__, cls=cls)(_expanded(function))
        return function

    return add


def _file(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help=f"the database; not given where --db or {database.VARIABLE} names it",
        ),
    ] = None,
    db: Annotated[str | None, typer.Option("--db", metavar="FILE", help=database.HELP)] = None,
    key_file: Annotated[
        str | None, typer.Option("--key-file", metavar="KEYS", help=database.KEYS_HELP)
    ] = None,
) -> str:
    # `OnDatabase` has put the one in the place of `file`, or refused to go on, and named the other.
    del db, key_file
    assert file is not None
    return file


def _chosen(
    statuses: Statuses = None,
    workflow_types: WorkflowTypes = None,
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
    is_paused: Annotated[
        bool, typer.Option("--paused", help="executions that are paused themselves")
    ] = False,
    tags: Tags = None,
    parent: Parent = None,
    root: Root = None,
    in_queues: InQueues = None,
    ended_before: Annotated[
        str | None,
        typer.Option("--ended-before", metavar="AGE", help="finished longer ago: 12h, 30d"),
    ] = None,
    is_all: Annotated[
        bool, typer.Option("--all", help="all executions; for list, all pages")
    ] = False,
) -> Chosen:
    return _as_chosen(**locals())


def _finished(
    ended_before: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="since it ended: 12h, 30d"),
    ] = None,
    statuses: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            "-s",
            metavar="STATUS",
            help="one, or several: failed,cancelled; completed by default",
        ),
    ] = None,
    workflow_types: WorkflowTypes = None,
    version: Version = None,
    id_prefix: IdPrefix = None,
    failed_since: FailedSince = None,
    ended_since: EndedSince = None,
    error: Error = None,
    step: Step = None,
    inputs: Inputs = None,
    tags: Tags = None,
    parent: Parent = None,
    root: Root = None,
    in_queues: InQueues = None,
    is_all: Annotated[bool, typer.Option("--all", help="of any age")] = False,
) -> Chosen:
    return _as_chosen(**locals())


def _as_chosen(
    statuses: list[str] | None,
    workflow_types: list[str] | None,
    inputs: list[str] | None,
    tags: list[str] | None,
    in_queues: list[str] | None,
    **others: Any,
) -> Chosen:
    return Chosen(
        statuses=statuses_of(statuses),
        workflow_types=tuple(workflow_types or ()),
        in_queues=tuple(in_queues or ()),
        inputs=tuple(inputs or ()),
        tags=tuple(tags or ()),
        **others,
    )


def _as_json(
    form: Annotated[
        PlainForm | None, typer.Option("--output", "-o", help="how it is written")
    ] = None,
    as_json: AsJson = False,
) -> bool:
    return form_of(form, as_json=as_json) == "json"


def _how(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do it without a question")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what the command would do, and do nothing")
    ] = False,
) -> How:
    return How(yes=yes, dry_run=dry_run)


def _ids(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="of executions; - reads them from a pipe"),
    ] = None,
) -> list[str]:
    return ids or []


_PARTS: dict[str, Callable[..., object]] = {
    "file": _file,
    "ids": _ids,
    "how": _how,
    "is_json": _as_json,
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
    expanded.__doc__ = function.__doc__
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {one.name: one.annotation for one in parameters}
    return expanded
