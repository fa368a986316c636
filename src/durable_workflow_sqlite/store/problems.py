"""What failed and what is in trouble, in groups: the same error at the same step of a workflow."""

from __future__ import annotations

from datetime import datetime

import msgspec

from durable_workflow_sqlite.records import check_integer, check_time
from durable_workflow_sqlite.store.inspection import Inspector
from durable_workflow_sqlite.store.rows import readable_time, time_to_text
from durable_workflow_sqlite.store.sql import load_queries


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """How many executions of a workflow have the same error. A time that cannot be read is None.

    problem: "FAILED" or "IN TROUBLE". step_name: where they failed; None where no step did, and for
    those in trouble. first_at, last_at: when the first and the last of them failed, or got into
    trouble. last_message: what the error of the last one says.
    """

    problem: str
    workflow_type: str | None
    step_name: str | None
    error_type: str | None
    executions: int
    first_at: datetime | None
    last_at: datetime | None
    last_execution_id: str
    last_message: str | None

    @property
    def says(self) -> str:
        """What the last one says, without the class of the error."""
        return (self.last_message or "").removeprefix(f"{self.error_type}: ")


def problems(
    inspector: Inspector, failed_since: datetime | None = None, *, limit: int | None = None
) -> list[Problem]:
    """The problems of a file; those that happened last come first.

    failed_since: leave out what failed before that; what is in trouble, is so now.
    Looks at each of these failures: about 15 microseconds for one.
    Raises StoreError.
    """
    if failed_since is not None:
        check_time("failed_since", failed_since)
    if limit is not None:
        check_integer("limit", limit, minimum=1)
    with inspector.reading() as connection:
        return [
            Problem(
                problem=row.problem,
                workflow_type=row.workflow_type,
                step_name=row.step_name,
                error_type=row.error_type,
                executions=row.executions,
                first_at=readable_time(row.first_at),
                last_at=readable_time(row.last_at),
                last_execution_id=row.last_execution_id,
                last_message=row.last_message,
            )
            for row in load_queries().load_problems(
                connection,
                failed_since="" if failed_since is None else time_to_text(failed_since),
                row_limit=-1 if limit is None else limit,  # to SQLite, -1 is no limit
            )
        ]
