"""The command line: what people do to a database from a shell. It needs the extra `cli`."""

from __future__ import annotations

from collections.abc import Sequence

from durable_workflow_sqlite.cli.application import build
from durable_workflow_sqlite.cli.output import fail
from durable_workflow_sqlite.errors import DurableWorkflowError


def main(arguments: Sequence[str]) -> int:
    """Run a command; return the exit code. What it could not do is one line on stderr."""
    try:
        build()(list(arguments), prog_name="durable-workflow", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except (DurableWorkflowError, ValueError, OSError) as error:
        fail(str(error))
        return 1
    return 0
