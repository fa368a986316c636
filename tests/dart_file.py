"""A file as the Dart package writes it: schema version 1, every table and every status filled."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

# The Dart package writes milliseconds, or microseconds if there are any; the defaults of the
# columns write milliseconds and no Z. All of them are UTC.
MILLIS: Final = "2024-03-01T10:00:00.123Z"
MICROS: Final = "2024-03-01T10:00:00.123456Z"
BARE: Final = "2024-03-01T10:00:00.123"

_IN_ONE_FORM: Final = dict.fromkeys((MILLIS, BARE), "2024-03-01T10:00:00.123000Z")

TIMES: Final[dict[str | None, datetime | None]] = {
    MILLIS: datetime(2024, 3, 1, 10, 0, 0, 123_000, tzinfo=UTC),
    MICROS: datetime(2024, 3, 1, 10, 0, 0, 123_456, tzinfo=UTC),
    BARE: datetime(2024, 3, 1, 10, 0, 0, 123_000, tzinfo=UTC),
    None: None,
}

TABLES: Final = (
    "workflows",
    "workflow_executions",
    "step_checkpoints",
    "workflow_timers",
    "workflow_signals",
)

HIGHEST_SIGNAL_ID: Final = 9
"""Given out and deleted again: no later signal may have it."""

EVENTS: Final[dict[int, int | None]] = {
    1: 1,
    2: None,
    3: None,
    4: None,  # the last attempt, which has no outcome yet
    5: 1,
    8: 1,
    9: None,  # a compensation
    10: 2,
    12: 1,
    13: 1,  # these three in the order in which they ended, whatever the format of the time
    14: 2,
    15: 3,
}
"""By the ids of the checkpoints: in which order their outcomes reached the workflow."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS workflows (
  workflow_id TEXT PRIMARY KEY,
  workflow_type TEXT NOT NULL,
  version INTEGER NOT NULL DEFAULT 1,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now'))
);
CREATE TABLE IF NOT EXISTS workflow_executions (
  workflow_execution_id TEXT PRIMARY KEY,
  workflow_id TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'PENDING' CHECK (status IN (
    'PENDING', 'RUNNING', 'SUSPENDED', 'COMPLETED', 'FAILED', 'COMPENSATING', 'CANCELLED')),
  current_step INTEGER DEFAULT 0,
  input_data TEXT,
  output_data TEXT,
  error_message TEXT,
  ttl_expires_at TEXT,
  guarantee TEXT NOT NULL DEFAULT 'FOREGROUND_ONLY',
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now')),
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now')),
  FOREIGN KEY (workflow_id) REFERENCES workflows (workflow_id)
);
CREATE TABLE IF NOT EXISTS step_checkpoints (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  workflow_execution_id TEXT NOT NULL,
  step_index INTEGER NOT NULL,
  step_name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('INTENT', 'COMPLETED', 'FAILED', 'COMPENSATED')),
  input_data TEXT,
  output_data TEXT,
  error_message TEXT,
  attempt INTEGER DEFAULT 1,
  idempotency_key TEXT,
  compensate_ref TEXT,
  started_at TEXT,
  completed_at TEXT,
  FOREIGN KEY (workflow_execution_id) REFERENCES workflow_executions (workflow_execution_id),
  UNIQUE (workflow_execution_id, step_index, attempt)
);
CREATE TABLE IF NOT EXISTS workflow_timers (
  workflow_timer_id TEXT PRIMARY KEY,
  workflow_execution_id TEXT NOT NULL,
  step_name TEXT NOT NULL,
  fire_at TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'FIRED', 'CANCELLED')),
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now')),
  FOREIGN KEY (workflow_execution_id) REFERENCES workflow_executions (workflow_execution_id)
);
CREATE TABLE IF NOT EXISTS workflow_signals (
  workflow_signal_id INTEGER PRIMARY KEY AUTOINCREMENT,
  workflow_execution_id TEXT NOT NULL,
  signal_name TEXT NOT NULL,
  payload TEXT,
  status TEXT NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'DELIVERED', 'EXPIRED')),
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now')),
  FOREIGN KEY (workflow_execution_id) REFERENCES workflow_executions (workflow_execution_id)
);
CREATE INDEX IF NOT EXISTS idx_wf_exec_status ON workflow_executions (status);
CREATE INDEX IF NOT EXISTS idx_wf_exec_workflow ON workflow_executions (workflow_id);
CREATE INDEX IF NOT EXISTS idx_step_cp_exec
  ON step_checkpoints (workflow_execution_id, step_index);
CREATE INDEX IF NOT EXISTS idx_wf_timer_fire ON workflow_timers (status, fire_at);
CREATE INDEX IF NOT EXISTS idx_wf_signal_pending
  ON workflow_signals (workflow_execution_id, signal_name, status);
PRAGMA user_version = 1;
"""

_ROWS: Final[dict[str, list[tuple[Any, ...]]]] = {
    "workflows": [
        ("order", "order", 1, MILLIS),
        ("überweisung-v2", "Überweisung 送金", 2, MICROS),
        ("approval", "approval", 1, BARE),
    ],
    # id, workflow, status, step, input, output, then
    # error, time to live, guarantee, created, updated
    "workflow_executions": [
        (
            *("e-pending", "order", "PENDING", 0, None, None),
            *(None, None, "FOREGROUND_ONLY", BARE, BARE),
        ),
        (
            *("e-running", "order", "RUNNING", 3, '{"id": "A-1001", "note": "Grüße 👋"}', None),
            *(None, MICROS, "BEST_EFFORT_BACKGROUND", MILLIS, MICROS),
        ),
        (
            *("e-suspended", "approval", "SUSPENDED", 1, "[]", None),
            *(None, MILLIS, "FOREGROUND_ONLY", MICROS, MILLIS),
        ),
        (
            *("e-completed", "überweisung-v2", "COMPLETED", 2, "null", '"✓"'),
            *(None, BARE, "FOREGROUND_ONLY", MILLIS, BARE),
        ),
        (
            *("e-failed", "order", "FAILED", 2, "{}", None),
            *("Exception: card\nrefused", None, "FOREGROUND_ONLY", MICROS, MICROS),
        ),
        (
            *("e-compensating", "order", "COMPENSATING", 2, "{}", None),
            *("", None, "BEST_EFFORT_BACKGROUND", MILLIS, MILLIS),
        ),
        (
            *("1718000000000001", "approval", "CANCELLED", None, "", ""),
            *("cancelled", None, "FOREGROUND_ONLY", BARE, MICROS),
        ),
    ],
    # id, execution, index, name, status, input, output, error, attempt, then
    # idempotency key, compensation, started, completed
    "step_checkpoints": [
        (
            *(1, "e-running", 0, "price", "COMPLETED", '"A-1001"', "12.5", None, 1),
            *("e-running:0", None, MILLIS, MICROS),
        ),
        (
            *(2, "e-running", 1, "charge", "FAILED", None, None, "timed out: 超时", 1),
            *(None, "refund", MICROS, BARE),
        ),
        (
            *(3, "e-running", 1, "charge", "FAILED", None, None, "timed out", 2),
            *(None, "refund", MICROS, MICROS),
        ),
        (
            *(4, "e-running", 1, "charge", "INTENT", "null", None, None, 3),
            *("e-running:1", "refund", BARE, None),
        ),
        (5, "e-suspended", 0, "ask", "COMPLETED", None, None, None, 1, None, None, None, None),
        (
            *(8, "e-compensating", 0, "reserve", "COMPLETED", None, '{"seat": "12A"}', None, 1),
            *(None, "release", MILLIS, MILLIS),
        ),
        (
            *(9, "e-compensating", 0, "reserve:compensate", "COMPENSATED", None, None, None, 0),
            *(None, None, MILLIS, MILLIS),
        ),
        (
            *(10, "e-compensating", 1, "pay", "FAILED", None, None, "no funds", 1),
            *(None, None, MICROS, MILLIS),
        ),
        (
            *(12, "e-completed", 0, "überweisen", "COMPLETED", None, '"ß"', None, 1),
            *(None, None, MICROS, BARE),
        ),
        (
            *(13, "e-failed", 0, "price", "COMPLETED", None, "12.5", None, 1),
            *(None, None, MILLIS, BARE),
        ),
        (
            *(14, "e-failed", 1, "reserve", "COMPLETED", None, "null", None, 1),
            *(None, None, BARE, MILLIS),
        ),
        (
            *(15, "e-failed", 2, "charge", "FAILED", None, None, "card\nrefused", 1),
            *(None, None, MILLIS, MICROS),
        ),
    ],
    "workflow_timers": [
        ("t-pending", "e-suspended", "cooling-off", MICROS, "PENDING", MILLIS),
        ("t-pending-2", "e-running", "späte Frist", BARE, "PENDING", BARE),
        ("t-fired", "e-completed", "nap", MILLIS, "FIRED", MICROS),
        ("t-cancelled", "e-failed", "nap", BARE, "CANCELLED", BARE),
    ],
    "workflow_signals": [
        (1, "e-completed", "go", '"ja"', "DELIVERED", MILLIS),
        (3, "e-suspended", "approved", "kim", "PENDING", BARE),
        (4, "e-suspended", "approved", None, "PENDING", MICROS),
        (6, "e-suspended", "bestätigt ✅", '{"by": "李"}', "PENDING", MILLIS),
        (7, "e-failed", "late", "", "EXPIRED", MICROS),
        (HIGHEST_SIGNAL_ID, "e-failed", "gone", None, "EXPIRED", MICROS),
    ],
}


def write_dart_file(path: Path) -> None:
    """Write it the way the Dart package does: write-ahead log, foreign keys enforced."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executescript(_SCHEMA)
        for table in TABLES:
            for row in _ROWS[table]:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        connection.execute(
            "DELETE FROM workflow_signals WHERE workflow_signal_id = ?", (HIGHEST_SIGNAL_ID,)
        )


def read_rows(path: Path, columns: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """The columns asked for of each table's rows, in the order of their keys."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(
                f"SELECT {', '.join(names)} FROM {table} ORDER BY 1"
            ).fetchall()
            for table, names in columns.items()
        }


def migrated(
    rows: dict[str, list[tuple[Any, ...]]], columns: dict[str, list[str]]
) -> dict[str, list[tuple[Any, ...]]]:
    """What a migration makes of them: the times in one form, and a count where there was none."""
    return {
        table: [
            tuple(
                0 if (name, value) == ("current_step", None) else _IN_ONE_FORM.get(value, value)
                for name, value in zip(columns[table], row, strict=True)
            )
            for row in found
        ]
        for table, found in rows.items()
    }


def read_columns(path: Path) -> dict[str, list[str]]:
    """The names of each table's columns."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
            for table in TABLES
        }
