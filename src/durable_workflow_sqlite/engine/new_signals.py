"""`NewSignal`: a signal that somebody wants to send, and its record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from datetime import datetime

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.payload_sizes import check_size
from durable_workflow_sqlite.records import WorkflowSignal, check_identifier


@dataclass(frozen=True)
class NewSignal:
    """A signal to send: its name, its payload, and maybe a key, as `engine.send_signal` has them.

    `engine.start`, `engine.enqueue` and `engine.signal_or_start` take it.
    """

    name: str
    payload: object = None
    _: KW_ONLY
    key: str | None = None


def record_of(
    execution_id: str, new: NewSignal, now: datetime, max_payload_bytes: int
) -> WorkflowSignal:
    """Raises TypeError, ValueError or SerializationError for what cannot be sent."""
    if not isinstance(new, NewSignal):
        raise TypeError(f'a signal to send is a NewSignal, as NewSignal("approved"), not {new!r}')
    check_identifier("a signal's name", new.name)
    if new.name.startswith("$"):
        raise ValueError(
            f"signal names that begin with $ are reserved for the library: {new.name!r}; to cancel"
            " an execution, call cancel()"
        )
    if new.key is not None:
        check_identifier("the key of a signal", new.key)
    what = f"the payload of signal {new.name!r}"
    payload = serialization.to_json(new.payload, what)
    check_size(payload, max_payload_bytes, what)
    return WorkflowSignal(
        workflow_execution_id=execution_id,
        signal_name=new.name,
        payload=payload,
        signal_key=new.key,
        created_at=now,
    )


def records_of(
    execution_id: str, signals: Iterable[NewSignal], now: datetime, max_payload_bytes: int
) -> list[WorkflowSignal]:
    """Those of an execution that is to be started. Raises ValueError for a key that comes twice."""
    records = [record_of(execution_id, one, now, max_payload_bytes) for one in signals]
    keys = [one.signal_key for one in records if one.signal_key is not None]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"an execution has one signal of a key; several have {min(twice)!r}")
    return records
