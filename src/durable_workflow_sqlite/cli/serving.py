"""The command that serves the tools of a model: mcp."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout, suppress
from typing import Annotated

import typer

from durable_workflow_sqlite.cli.arguments import on_database
from durable_workflow_sqlite.cli.code import workflows_of
from durable_workflow_sqlite.errors import DurableWorkflowError

app = typer.Typer(rich_markup_mode=None)


@on_database(app)
def mcp(
    file: str,
    apps: Annotated[
        list[str] | None,
        typer.Option(
            "--app",
            metavar="MODULE[:NAME]",
            help="workflows that may be started, with the names and types of their arguments: one,"
            " a list of them, or all that a module holds; repeat it for more modules",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="only look: list, show and wait")
    ] = False,
    allow_start: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-start",
            metavar="TYPE",
            help="only these workflows may be started; repeat it for more",
        ),
    ] = None,
    allow_see: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-see",
            metavar="TYPE",
            help="only executions of these workflows, and of those that may be started, are there"
            " for it; repeat it for more",
        ),
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="who acts, for the audit log")] = "mcp",
) -> None:
    """Serve a model over stdin and stdout by the Model Context Protocol; needs the extra `mcp`. A
    program that has a model starts this command."""
    try:
        from durable_workflow_sqlite.integrations.mcp import serve
    except ImportError as error:
        raise DurableWorkflowError(str(error)) from error
    with redirect_stdout(sys.stderr):  # what a module prints is no part of the protocol
        workflows = workflows_of(apps or ())
    with suppress(KeyboardInterrupt):
        serve(
            file,
            workflows=workflows,
            read_only=read_only,
            allow_start=allow_start or None,
            allow_see=allow_see or None,
            by=by,
        )
