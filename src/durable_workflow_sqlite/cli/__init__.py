"""The command line: what people on call do to a database from a shell.

`main` runs one command. It needs the extra `cli`; `migrate` and `worker`, which do not, stand in
`__main__` and are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from durable_workflow_sqlite.cli.application import build
from durable_workflow_sqlite.cli.output import WrongUsageError, fail
from durable_workflow_sqlite.errors import DurableWorkflowError

RunHere = Callable[[Sequence[str]], int]


def main(arguments: Sequence[str], run_here: RunHere) -> int:
    """Run a command, and return the exit code. `run_here` runs `migrate` and `worker`."""
    try:
        build(run_here)(list(arguments), prog_name="durable-workflow", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except WrongUsageError as error:
        fail(str(error))
        return 2
    except (DurableWorkflowError, ValueError, OSError) as error:
        fail(str(error))
        return 1
    return 0
