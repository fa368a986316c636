"""A file with the history of a long life: what a database looks like after a million executions.

    python -m benchmarks.big_file FILE [--executions N] [--checkpoints-each N]

Every row is what the library would have written, and the same each time.
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from durable_workflow_sqlite import migrate

EXECUTIONS: Final = 1_000_000
CHECKPOINTS_EACH: Final = 5

# Every half minute, one execution begins; the first on 2025-01-01. Of a hundred, two FAILED and
# one is CANCELLED; every fourth has slept, every fifth has been signalled. The ids are spread
# like UUIDs: the factor is prime to 2^32, so that no two of them are alike.
_EXECUTIONS: Final = """
with recursive numbers (n) as (
    select 0
    union all
    select n + 1 from numbers where n + 1 < :executions
)
insert into temp.life (n, id, type, status, second, micros)
select
    n,
    printf(
        '%08x-%04x-4%03x-9%03x-%012x',
        n * 2654435761 & 0xffffffff,
        n * 40503 & 0xffff,
        n * 2057 & 0xfff,
        n * 1031 & 0xfff,
        n * 11400714785 & 0xffffffffffff
    ),
    case n % 10 when 0 then 'refund' when 1 then 'report' when 2 then 'report' else 'order' end,
    case n % 100 when 13 then 'FAILED' when 57 then 'FAILED' when 91 then 'CANCELLED'
        else 'COMPLETED' end,
    strftime('%s', '2025-01-01') + 30 * n,
    n * 7919 % 900000
from numbers
"""

_HISTORY: Final = (
    """
insert into workflows (workflow_id, workflow_type, version, created_at)
select distinct type || '@1', type, 1, '2025-01-01T00:00:00.000000Z' from temp.life
""",
    """
insert into workflow_executions (
    workflow_execution_id, workflow_id, status, current_step, input_data, output_data,
    error_type, error_message, guarantee, created_at, updated_at, status_since
)
select
    id,
    type || '@1',
    status,
    :checkpoints_each,
    printf('["A-%d"]', n),
    case status when 'COMPLETED' then printf('{"order":"A-%d","cents":%d}', n, n % 9000) end,
    case status when 'FAILED' then 'builtins:TimeoutError'
        when 'CANCELLED' then 'durable_workflow_sqlite.errors:WorkflowCancelledError' end,
    case status when 'FAILED' then 'the payment service did not answer'
        when 'CANCELLED' then printf('execution ''%s'' was cancelled', id) end,
    'BEST_EFFORT_BACKGROUND',
    strftime('%Y-%m-%dT%H:%M:%S', second, 'unixepoch') || printf('.%06dZ', micros),
    strftime('%Y-%m-%dT%H:%M:%S', second + 2 + n % 7, 'unixepoch') || printf('.%06dZ', micros),
    strftime('%Y-%m-%dT%H:%M:%S', second + 2 + n % 7, 'unixepoch') || printf('.%06dZ', micros)
from temp.life
order by n
""",
    """
with recursive steps (step) as (
    select 0
    union all
    select step + 1 from steps where step + 1 < :checkpoints_each
)
insert into step_checkpoints (
    workflow_execution_id, branch, step_index, attempt, step_name, kind, status, output_data,
    error_type, error_message, started_at, completed_at, due_at
)
select
    id,
    '',
    step,
    1,
    case
        when n % 4 = 0 and step = 1 then 'cooling-off'
        when n % 5 = 0 and step = 2 then 'approved'
        else 'step-' || step
    end,
    case
        when n % 4 = 0 and step = 1 then 'SLEEP'
        when n % 5 = 0 and step = 2 then 'SIGNAL'
        else 'STEP'
    end,
    iif(status = 'FAILED' and step = :checkpoints_each - 1, 'FAILED', 'COMPLETED'),
    case
        when n % 4 = 0 and step = 1 then null
        when n % 5 = 0 and step = 2 then '"kim"'
        when status = 'FAILED' and step = :checkpoints_each - 1 then null
        else printf('%d', n % 9000)
    end,
    iif(status = 'FAILED' and step = :checkpoints_each - 1, 'builtins:TimeoutError', null),
    iif(
        status = 'FAILED' and step = :checkpoints_each - 1,
        'the payment service did not answer', null
    ),
    at || printf('.%06dZ', micros + 2 * step),
    at || printf('.%06dZ', micros + 2 * step + 1),
    iif(n % 4 = 0 and step = 1, at || printf('.%06dZ', micros + 2 * step + 1), null)
from (
    select id, n, status, micros, strftime('%Y-%m-%dT%H:%M:%S', second + 1, 'unixepoch') as at
    from temp.life
)
cross join steps
order by n, step
""",
    """
insert into workflow_timers (
    workflow_timer_id, workflow_execution_id, step_name, fire_at, status, created_at
)
select
    json_array(id, '', 1),
    id,
    'cooling-off',
    strftime('%Y-%m-%dT%H:%M:%S', second + 1, 'unixepoch') || printf('.%06dZ', micros + 3),
    iif(status = 'CANCELLED', 'CANCELLED', 'FIRED'),
    strftime('%Y-%m-%dT%H:%M:%S', second + 1, 'unixepoch') || printf('.%06dZ', micros + 2)
from temp.life
where n % 4 = 0
order by n
""",
    """
insert into workflow_signals (
    workflow_execution_id, signal_name, payload, status, created_at
)
select
    id,
    'approved',
    '"kim"',
    iif(status = 'CANCELLED', 'EXPIRED', 'DELIVERED'),
    strftime('%Y-%m-%dT%H:%M:%S', second + 1, 'unixepoch') || printf('.%06dZ', micros + 4)
from temp.life
where n % 5 = 0
order by n
""",
)


def build(
    file: Path, executions: int = EXECUTIONS, checkpoints_each: int = CHECKPOINTS_EACH
) -> None:
    """Make a new database, migrated and in WAL mode, that holds nothing but finished executions.

    It is there when it is complete, and not before. Raises FileExistsError.
    """
    if file.exists():
        raise FileExistsError(f"{file} exists already")
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    counts = {"executions": executions, "checkpoints_each": checkpoints_each}
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
        migrate(connection)
        connection.execute("pragma journal_mode = off").fetchall()
        connection.execute("pragma synchronous = off")
        connection.execute("pragma cache_size = -1000000")
        connection.execute("begin")
        connection.execute(
            "create temp table life (n integer primary key, id, type, status, second, micros)"
        )
        connection.execute(_EXECUTIONS, counts)
        for statement in _HISTORY:
            connection.execute(statement, counts)
        connection.execute("commit")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma journal_mode = wal").fetchall()
    unfinished.rename(file)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a database of finished executions.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--executions", type=int, default=EXECUTIONS)
    parser.add_argument("--checkpoints-each", type=int, default=CHECKPOINTS_EACH)
    arguments = parser.parse_args()
    began = time.perf_counter()
    build(arguments.file, arguments.executions, arguments.checkpoints_each)
    seconds = time.perf_counter() - began
    print(f"{arguments.file}: {arguments.file.stat().st_size / 1e6:.0f} MB in {seconds:.1f} s")


if __name__ == "__main__":
    main()
