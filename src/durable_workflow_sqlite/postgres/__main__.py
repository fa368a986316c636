"""Brings a schema of PostgreSQL up to date.

python -m durable_workflow_sqlite.postgres URL [SCHEMA]
"""

from __future__ import annotations

import sys

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.postgres.migrations import migrate
from durable_workflow_sqlite.postgres.session import DEFAULT_SCHEMA

USAGE = "python -m durable_workflow_sqlite.postgres URL [SCHEMA]"


def main(arguments: list[str]) -> int:
    """What the command does; its exit code."""
    if len(arguments) not in (1, 2):
        sys.stderr.write(f"give the URL of a database: {USAGE}\n")
        return 2
    url, schema = arguments[0], (arguments[1:] or [DEFAULT_SCHEMA])[0]
    try:
        applied = migrate(url, schema=schema)
    except (StoreError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    said = f"applied {', '.join(applied)}" if applied else "nothing is pending"
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
