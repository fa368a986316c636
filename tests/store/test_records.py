"""A record checks itself when it is made: nothing that could not be read back is written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from durable_workflow_sqlite import Record, TimerStatus
from durable_workflow_sqlite.testing.contract_base import (
    MINUTE,
    NOON,
    WORKFLOW,
    checkpoint_with_everything,
    execution_with_everything,
    new_checkpoint,
    new_execution,
    new_signal,
    new_timer,
)

_NAIVE = datetime(2024, 2, 29, 12)  # noqa: DTZ001
_EXECUTION = new_execution("e")
_CHECKPOINT = new_checkpoint("e", 0)
_TIMER = new_timer("e", "t", NOON)
_SIGNAL = new_signal("e", "go")

BAD_IDENTIFIERS = (
    "",
    " padded",
    "padded\n",
    "\u00a0padded",
    "x" * 257,
    "bell\x07",
    "delete\x7f",
    "next\u0085line",
    "half \ud800 a pair",
)
IDENTIFIERS: list[tuple[Record, str]] = [
    (WORKFLOW, "workflow_id"),
    (WORKFLOW, "workflow_type"),
    (_EXECUTION, "workflow_execution_id"),
    (_EXECUTION, "workflow_id"),
    (_CHECKPOINT, "workflow_execution_id"),
    (_CHECKPOINT, "step_name"),
    (_TIMER, "workflow_execution_id"),
    (_TIMER, "step_name"),
    (_SIGNAL, "workflow_execution_id"),
    (_SIGNAL, "signal_name"),
]
BAD_FIELDS: list[tuple[Record, str, tuple[Any, ...], type[Exception]]] = [
    (_CHECKPOINT, "step_index", (-1, 2**63), ValueError),
    (_CHECKPOINT, "step_index", (True, 1.0, "1", None), TypeError),
    (_CHECKPOINT, "attempt", (-1,), ValueError),
    (_CHECKPOINT, "attempt", (False, None), TypeError),
    (_CHECKPOINT, "status", ("INTENT", TimerStatus.FIRED, None), TypeError),
    (_CHECKPOINT, "output_data", ({"a": 1}, b"1"), TypeError),
    (_CHECKPOINT, "output_data", ("\udc00",), ValueError),
    *(
        (_CHECKPOINT, one, (_NAIVE,), ValueError)
        for one in ("started_at", "completed_at", "due_at")
    ),
    (_CHECKPOINT, "event", (0, -1, 2**63), ValueError),
    (_CHECKPOINT, "event", (True, 1.0, "1"), TypeError),
    (_EXECUTION, "status", ("RUNNING", None), TypeError),
    (_EXECUTION, "current_step", (-1,), ValueError),
    (_EXECUTION, "ttl_expires_at", (_NAIVE,), ValueError),
    (_EXECUTION, "last_event", (-1, 2**63), ValueError),
    (_EXECUTION, "last_event", (False, "1"), TypeError),
    (_EXECUTION, "started_at", (_NAIVE,), ValueError),
    (_EXECUTION, "started_at", ("2024-02-29T12:00:00Z",), TypeError),
    (_EXECUTION, "created_at", (_NAIVE,), ValueError),
    (_EXECUTION, "updated_at", ("2024-02-29T12:00:00Z", 1709208000, None), TypeError),
    (WORKFLOW, "version", (0, -1), ValueError),
    (WORKFLOW, "version", (True, "1"), TypeError),
    (WORKFLOW, "created_at", (_NAIVE,), ValueError),
    (_TIMER, "workflow_timer_id", ("",), ValueError),
    (_TIMER, "fire_at", (_NAIVE,), ValueError),
    (_TIMER, "fire_at", (None, 12), TypeError),
    (_SIGNAL, "created_at", (_NAIVE,), ValueError),
    (_SIGNAL, "payload", (b"1", 1), TypeError),
    (_SIGNAL, "workflow_signal_id", (0, -1), ValueError),
]


def test_a_record_is_frozen_and_compares_by_value() -> None:
    for make in (
        lambda: execution_with_everything("e"),
        lambda: checkpoint_with_everything("e", 0),
        lambda: new_timer("e", "t", NOON),
        lambda: new_signal("e", "go", created_at=NOON),
    ):
        record: Any = make()
        assert record == make()
        with pytest.raises(AttributeError):
            record.workflow_execution_id = "f"
        assert record == make()
    assert new_timer("e", "t", NOON) != new_timer("e", "t", NOON + MINUTE)


def test_bad_fields_are_refused_when_a_record_is_made() -> None:
    for record, field, values, error in BAD_FIELDS:
        for value in values:
            with pytest.raises(error, match=field):
                _with(record, field, value)


def test_identifiers_are_neither_empty_nor_padded_nor_long_nor_unprintable() -> None:
    for record, field in IDENTIFIERS:
        for good in ("x" * 256, "in between", "Größe 世界 \U0001f680"):
            assert getattr(_with(record, field, good), field) == good
        for bad in BAD_IDENTIFIERS:
            with pytest.raises(ValueError, match=field):
                _with(record, field, bad)
        for other in (None, 7, b"bytes"):
            with pytest.raises(TypeError, match=field):
                _with(record, field, other)


def _with(record: Record, field: str, value: Any) -> Record:
    fields: dict[str, Any] = {name: getattr(record, name) for name in record.__struct_fields__}
    fields[field] = value
    return type(record)(**fields)
