"""What a step was asked, as a hash: so that a replay that asks something else is noticed."""

from __future__ import annotations

import hashlib

import msgspec

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.engine.history import HOW_TO_MEND, StepHistory, place_in_words
from durable_workflow_sqlite.errors import NonDeterminismError

_HASH_BYTES = 16


class _Recorded(msgspec.Struct, frozen=True):
    of: str


def fingerprint(value: object, step: str) -> str:
    """The hash of a value as the record of a step holds it: {"of": HASH}.

    Equal JSON gives equal hashes, whatever the order of its keys. Raises SerializationError for a
    value that cannot be written as JSON.
    """
    text = serialization.canonical(value, f"`of` of step {step!r}")
    return f'{{"of":"{hashlib.blake2b(text, digest_size=_HASH_BYTES).hexdigest()}"}}'


def changed(execution_id: str, history: StepHistory | None, now: str) -> NonDeterminismError | None:
    """The error for a step that was asked something else before; None if it was not.

    now: what it is asked now, from `fingerprint`. A step that was recorded without a hash fits.
    """
    recorded = None if history is None else history.last
    if recorded is None or recorded.input_data in (None, now):
        return None
    if _of(recorded.input_data) in (None, _of(now)):
        return None
    place = (recorded.branch, recorded.step_index)
    return NonDeterminismError(
        f"step {recorded.step_name!r} ({place_in_words(place)}) of execution {execution_id!r} was"
        " asked something else when it was recorded: the value of its `of` differs. It was left as"
        f" it is, since its recorded result answers another question. {HOW_TO_MEND}",
        workflow_execution_id=execution_id,
        step_index=recorded.step_index,
        branch=recorded.branch,
        recorded_name=recorded.step_name,
        current_name=recorded.step_name,
    )


def _of(input_data: str | None) -> str | None:
    try:
        return msgspec.json.decode(input_data or "", type=_Recorded).of
    except msgspec.MsgspecError:
        return None
