"""`durable-workflow`, and `python -m durable_workflow_sqlite`: a database from a shell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    if find_spec("typer") is None or find_spec("rich") is None:
        sys.stderr.write(
            "the command line needs packages that are not installed:"
            " pip install 'durable-workflow-sqlite[cli]'\n"
        )
        return 1
    from durable_workflow_sqlite import cli

    return cli.main(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
