"""All commands: which there are, and where they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module, metadata
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from durable_workflow_sqlite import database, stores
from durable_workflow_sqlite.cli import output

_MODULES: Final = {
    **dict.fromkeys(("status", "workers", "list", "show", "watch"), "reading"),
    "follow": "following",
    **dict.fromkeys(("signal", "cancel", "retry"), "actions"),
    **dict.fromkeys(("questions", "answer"), "questions"),
    "start": "starting",
    "schedule": "schedules",
    **dict.fromkeys(("rerun", "fork", "resolve", "unblock", "acknowledge"), "actions"),
    **dict.fromkeys(("pause", "resume"), "pausing"),
    "queue": "queues",
    "audit": "acts",
    **dict.fromkeys(("prune", "backup", "vacuum", "doctor", "dashboard"), "maintenance"),
    "keys": "keys",
    "move": "moving",
    "mcp": "serving",
    **dict.fromkeys(("migrate", "worker"), "running"),
    **dict.fromkeys(("check-code", "export"), "code"),
}
"""The commands in the order of the help, and the module of each, where they are in `app`."""


class Commands(TyperGroup):
    """Imports a command when it is asked for: a worker waits for no tables, and has none."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*_MODULES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            # For a name that is none, all of them: Typer says which one is like it.
            for module in [_MODULES[cmd_name]] if cmd_name in _MODULES else {*_MODULES.values()}:
                app = import_module(f"durable_workflow_sqlite.cli.{module}").app
                self.commands.update(typer.main.get_group(app).commands)
        return super().get_command(ctx, cmd_name)


def _say_versions(wanted: bool) -> None:
    if not wanted:
        return
    try:
        ours = metadata.version("durable-workflow-sqlite")
    except metadata.PackageNotFoundError:  # run from a folder of its sources
        ours = "of an unknown version"
    output.say(f"durable-workflow-sqlite {ours}")
    output.say(f"SQLite {stores.SQLITE_VERSION}")
    output.say(f"schema {stores.SCHEMA_VERSION}")
    raise typer.Exit


@cache
def build() -> Callable[..., object]:
    """What runs a command."""
    app = typer.Typer(
        cls=Commands,
        help="Watch and repair durable workflows in a SQLite file, with or without running"
        f" workers. The first argument of each command is the file, unless --db or"
        f" {database.VARIABLE} names it.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog="Exit status: 0 done, 1 failed (one line on stderr says why), 2 wrong usage;"
        " doctor: 3 warnings, 4 errors.",
    )

    @app.callback()
    def for_all(  # pyright: ignore[reportUnusedFunction]
        db: Annotated[str | None, typer.Option("--db", metavar="FILE", help=database.HELP)] = None,
        key_file: Annotated[
            str | None, typer.Option("--key-file", metavar="KEYS", help=database.KEYS_HELP)
        ] = None,
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=_say_versions,
                is_eager=True,
                help="print the versions of the library, SQLite and the schema",
            ),
        ] = False,
    ) -> None:
        del db, key_file, version  # `OnDatabase` reads these, its callback the last

    return typer.main.get_command(app)
