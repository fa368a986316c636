"""What failed and what is in trouble, in groups: the same error at the same step of a workflow."""

from __future__ import annotations

from datetime import datetime

from durable_workflow_sqlite.reading.overview import Problem
from durable_workflow_sqlite.records import check_integer, check_time, utc_now
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.rows import readable_time, time_to_text


def problems(
    file: Readable, failed_since: datetime | None = None, *, limit: int | None = None
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
    with file.reading() as connection:
        return [
            Problem(
                problem=row.problem,
                workflow_type=row.workflow_type,
                step_name=row.step_name,
                error_type=row.error_type,
                place=row.place,
                executions=row.executions,
                first_at=readable_time(row.first_at),
                last_at=readable_time(row.last_at),
                last_execution_id=row.last_execution_id,
                last_message=row.last_message,
            )
            for row in file.queries.load_problems(
                connection,
                failed_since="" if failed_since is None else time_to_text(failed_since),
                now=time_to_text(utc_now()),
                row_limit=-1 if limit is None else limit,  # to SQLite, -1 is no limit
            )
        ]
